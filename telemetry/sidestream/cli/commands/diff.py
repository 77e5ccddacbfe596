"""`sidestream diff`: the differences between two runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import unified_diff
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Log, Unread, choosing_runs
from sidestream.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.text import Text

    from sidestream.events.bounds import Figure
    from sidestream.log import Change, Filter, RunDiff, RunSummary, Step, StepDiff

MEASURES = ("duration_seconds", "time_to_first_token_seconds", "cost_usd", "input_tokens", "output_tokens")
SHORT = 24
"""Maximum characters of texts that are shown side by side on one line."""
SMALL_SECONDS = 0.01
"""Durations in seconds below which a difference is not shown in percent."""
FIGURES: tuple[Figure, ...] = ("usage", "cost")
FOLDED = 6
"""Lines of a text difference that are shown without --full."""


@choosing_runs
def diff(
    where: Filter,
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Ids, or their beginnings or ends. Default: the last runs."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show texts that differ in full, and equal steps.")] = False,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs.

    Compares prompts, steps, answers, tokens, time and cost. Steps are paired by kind and name, in order. Without RUN,
    the last two runs that match the options are compared; with one RUN, that run and the last other one. With --json:
    sidestream.log.RunDiff, a and b as in `sidestream runs --json`.

    Example:  sidestream diff --agent support

    Example:  sidestream diff b855 f021 --full
    """
    from sidestream.cli.rendering import busy, write_json
    from sidestream.log import diff as compare
    from sidestream.log import load_run
    from sidestream.log import runs as read_runs

    paths = log or [DEFAULT_LOG]
    unread = Unread()
    with busy(paths):
        known = read_runs(paths, where, on_problem=unread)
        unread.report()
        first, second = _chosen(runs or [], known)
        found = compare(load_run(paths, first.run_id), load_run(paths, second.run_id))
    if as_json:
        write_json(_as_plain(found))
    else:
        _show(found, full)


def _chosen(names: Sequence[str], known: Sequence[RunSummary]) -> list[RunSummary]:
    from sidestream.log.runs.naming import named_run

    if len(names) > 2:
        raise ConfigurationError(f"diff: two runs can be compared, not {len(names)}")
    named = [named_run(name, known) for name in names]
    others = [run for run in known if run.parent_run_id is None and run not in named]
    if len(named) + len(others) < 2:
        raise ConfigurationError("diff: there are no two such runs in this log")
    return sorted([*named, *others[len(others) - (2 - len(named)) :]], key=known.index) if len(named) < 2 else named


def _as_plain(found: RunDiff) -> dict[str, Any]:
    """Plain values for JSON. Each step stands alone, because steps within it have their own entries."""
    import msgspec

    def alone(step: Step | None) -> Step | None:
        return None if step is None else msgspec.structs.replace(step, children=[], run=None, parts=[])

    steps = [msgspec.structs.replace(pair, a=alone(pair.a), b=alone(pair.b)) for pair in found.steps]
    return {"same": found.same, "a": found.a.summary, "b": found.b.summary, "facts": found.facts, "steps": steps}


def _show(found: RunDiff, full: bool) -> None:
    from rich.text import Text

    from sidestream.cli.rendering import BAD, BOLD, DIM, GOOD, local, outcome, safe, show
    from sidestream.terminal.numbers import counted

    for sign, run, style in (("-", found.a.summary, BAD), ("+", found.b.summary, GOOD)):
        name = safe(f"{run.agent_name or 'agent'} {run.run_id}", BOLD)
        show(Text(f"{sign} ", style).append(name).append(f"  {local(run.started)}  ").append(outcome(run.outcome)))
    if found.facts:
        show("", *_changes(found.facts, "", full, _run_bounds(found.a.summary), _run_bounds(found.b.summary)))
    steps = [pair for pair in found.steps if not _is_fact(pair)]
    for same, pairs in groupby(steps, lambda pair: pair.status == "same" and not full):
        if same:
            show(Text(f"  {counted(len(list(pairs)), 'step')} the same", DIM))
        else:
            show(*(line for pair in pairs for line in _step(pair, full)))


def _is_fact(pair: StepDiff) -> bool:
    """Whether the step is the run's final result, which is already shown among the differences of the whole run."""
    step = pair.a or pair.b
    return step is not None and step.kind == "final_result" and pair.depth == 0


def _step(pair: StepDiff, full: bool) -> Iterator[Text]:
    from rich.text import Text

    from sidestream.cli.rendering import BAD, BOLD, GOOD, ODD, glyphs, safe
    from sidestream.cli.steps import subject
    from sidestream.terminal.numbers import humanize_seconds

    step = pair.b or pair.a
    assert step is not None
    sign, style = {"same": (" ", ""), "changed": ("~", ODD), "only_a": ("-", BAD), "only_b": ("+", GOOD)}[pair.status]
    indent = "  " * min(pair.depth, 8)
    name = subject(step)
    if pair.a is not None and pair.b is not None and pair.a.request != pair.b.request:
        name = f"{subject(pair.a)} {glyphs().to} #{pair.b.request}"  # same request in another position
    line = Text(f"{sign} {indent}", style).append(safe(name, BOLD if pair.status == "changed" else style))
    if pair.status != "changed":
        line.append(f"  {step.outcome or ''}  {humanize_seconds(step.duration_seconds)}".rstrip(), "dim")
    yield line
    if pair.status == "changed" or full:
        yield from _changes(pair.changes, indent + "    ", full, _step_bounds(pair.a), _step_bounds(pair.b))


def _run_bounds(run: RunSummary) -> frozenset[str]:
    """Names of the figures of a run that are lower bounds."""
    own = {"cost": ["cost_usd"], "usage": ["input_tokens", "output_tokens", "total_tokens"]}
    named = {name for figure in FIGURES if run.is_lower_bound(figure) for name in own[figure]}
    if run.is_lower_bound("cost", with_children=True):
        named.add("cost_usd_with_children")
    return frozenset(named)


def _step_bounds(step: Step | None) -> frozenset[str]:
    named = ["cost_usd"] if step and step.cost_is_lower_bound else []
    return frozenset([*named, *(["input_tokens", "output_tokens"] if step and step.usage_is_lower_bound else [])])


def _changes(
    changes: Sequence[Change], indent: str, full: bool, a_bounds: frozenset[str], b_bounds: frozenset[str]
) -> Iterator[Text]:
    """Lines of changes: numbers together on one line, then texts."""
    from rich.text import Text

    from sidestream.cli.rendering import BAD, DIM, GOOD, safe

    measured = [change for change in changes if _is_number(change.a) or _is_number(change.b)]
    bounds = [(change.what in a_bounds, change.what in b_bounds) for change in measured]
    yield from _filled([_from_to(change, *at_least) for change, at_least in zip(measured, bounds, strict=True)], indent)
    for change in changes:
        if change in measured:
            continue
        a, b = change.a, change.b
        if not isinstance(a, str | None) or not isinstance(b, str | None) or _is_short(a or "", b or ""):
            yield Text(indent).append(_from_to(change))
            continue
        yield Text(f"{indent}{_name(change)}:", DIM)
        for line in _text_difference(a or "", b or "", None if full else FOLDED):
            style = BAD if line[:1] == "-" else GOOD if line[:1] == "+" else DIM
            yield Text(f"{indent}  ").append(safe(line, style))


def _filled(pieces: Sequence[Text], indent: str) -> Iterator[Text]:
    """Lines filled with as many pieces as fit."""
    from rich.text import Text

    from sidestream.cli.rendering import width

    room = min(width(), 100)
    line = Text(indent)
    for piece in pieces:
        if len(line) > len(indent) and len(line) + len(piece) > room:
            yield line
            line = Text(indent)
        line.append(piece).append("   ")
    if len(line) > len(indent):
        yield line


def _from_to(change: Change, a_at_least: bool = False, b_at_least: bool = False) -> Text:
    from rich.text import Text

    from sidestream.cli.rendering import BAD, DIM, GOOD, glyphs, safe

    line = Text(f"{_name(change)}: ", DIM).append(safe(_value(change.what, change.a, a_at_least), BAD))
    line.append(f" {glyphs().to} ", DIM).append(safe(_value(change.what, change.b, b_at_least), GOOD))
    return line.append(_difference(change), DIM)


def _name(change: Change) -> str:
    name = change.what.removesuffix("_seconds").replace("_usd", "").replace("_with_children", " with sub-agents")
    return name.replace("sub_agents", "sub-agents").replace("_", " ")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_short(a: str, b: str) -> bool:
    return all("\n" not in text and len(text) <= SHORT for text in (a, b))


def _value(what: str, value: Any, at_least: bool) -> str:
    from sidestream.cli.rendering import cost, glyphs
    from sidestream.terminal.numbers import humanize_seconds
    from sidestream.terminal.text import one_line

    if value is None:
        return "not known" if what in MEASURES else "none"
    if isinstance(value, int | float):
        if what.endswith("_seconds"):
            return humanize_seconds(value)
        return cost(value, at_least) if "cost" in what else f"{glyphs().at_least if at_least else ''}{value:,}"
    return one_line(value, 120)


def _difference(change: Change) -> str:
    a, b = change.a, change.b
    if change.difference is None or not a or isinstance(a, bool):
        return ""
    if change.what.endswith("_seconds") and max(a, b) < SMALL_SECONDS:
        return ""  # a few milliseconds are noise
    return f" {(b - a) / a:+.0%}" if change.what in MEASURES or a > 20 else f" {b - a:+,}"


def _text_difference(a: str, b: str, most: int | None) -> list[str]:
    lines = list(unified_diff(_lines(a), _lines(b), lineterm="", n=1))[2:]
    lines = [line for line in lines if not line.startswith("@@")]
    if most is not None and len(lines) > most:
        return [*lines[:most], f"… {len(lines) - most} more lines, --full shows them"]
    return lines


def _lines(text: str) -> list[str]:
    """Lines of a text, split at sentences, so that one changed word does not mark the whole line."""
    import re

    return [piece for line in text.split("\n") for piece in re.split(r"(?<=[.!?]) +", line)] if text else []
