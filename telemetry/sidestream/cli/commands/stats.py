"""`sidestream stats`: totals of the runs of a log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, StoredLog, Unread, choosing_runs, no_runs
from sidestream.errors import ConfigurationError

if TYPE_CHECKING:
    from sidestream.log import Filter, Statistics
    from sidestream.log.runs.totals import Group
    from sidestream.terminal.table import Styled, TableCell

TABLES = ("agent", "model", "tool", "hour", "day", "attempt")
COUNTED = {"model": "requests", "tool": "calls"}


@choosing_runs
def stats(
    where: Filter,
    paths: StoredLog = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="agent, model, tool, hour, day, attempt or tag:NAME. Repeatable. Default: agent, model and tool.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sum up a log by agent, model, tool, hour, day, attempt, or the values of a tag.

    Counts runs, requests and tool calls, their outcomes, tokens, cost and durations. p50 is the median; 95 of 100 took
    no longer than p95. Hours and days are UTC. A run's cost excludes its sub-agents, so that nothing is counted twice.
    With --json: sidestream.log.Statistics, with all tables.

    Example:  sidestream stats --since 24h

    Example:  sidestream stats --by day --by tag:tenant

    Example:  sidestream stats --by hour --agent support --json
    """
    from sidestream.cli.rendering import busy, write, write_json
    from sidestream.log import statistics

    wanted = list(dict.fromkeys(by or TABLES[:3]))
    tags = [each.removeprefix("tag:") for each in wanted if each.startswith("tag:") and each != "tag:"]
    if unknown := [each for each in wanted if each not in TABLES and each.removeprefix("tag:") not in tags]:
        raise ConfigurationError(f"stats: --by {unknown[0]!r}: choose from {', '.join(TABLES)}, tag:NAME")
    unread = Unread()
    log = paths or [DEFAULT_LOG]
    with busy(log):
        found = statistics(log, where, tags=tags, on_problem=unread)
    if as_json:
        write_json(found)
    elif found.total.count:
        write("".join(f"{line}\n" for line in _total(found)))
        for each in wanted:
            name = each.removeprefix("tag:")
            groups = found.by_tag[name] if name != each else getattr(found, f"by_{each}")
            if groups:
                write("\n")
                _show_groups(name, groups, of_tag=name != each)
    unread.report()
    if not found.total.count:
        raise no_runs(where)


def _total(found: Statistics) -> Iterator[str]:
    from sidestream.cli.rendering import layout, own_cost, own_tokens
    from sidestream.terminal.layout import DIM, YELLOW
    from sidestream.terminal.numbers import counted

    total, output = found.total, layout()
    facts = [
        own_tokens(total),
        own_cost(total),
        counted(total.requests, "request"),
        counted(total.tool_calls, "tool call"),
        counted(total.retries, "retry") if total.retries else "",
    ]
    ends = "".join(output.paint(*span) for span in _ends(total, apart_from=()))
    yield f"{counted(total.count, 'run')}  {ends}"
    missing = f"  {counted(found.missing_events, 'event')} not in the log" if found.missing_events else ""
    yield output.paint("  ".join(fact for fact in facts if fact), DIM) + output.paint(missing, YELLOW)


def _ends(group: Group, apart_from: Sequence[str] = ("ok", "completed")) -> list[Styled]:
    """Counts by outcome, without the usual outcomes in `apart_from`."""
    from sidestream.cli.rendering import layout
    from sidestream.terminal.table import Styled
    from sidestream.terminal.text import sanitize

    counts = [each for each in sorted(group.outcomes.items(), key=lambda item: -item[1]) if each[0] not in apart_from]
    spans = [Styled(sanitize(f"{number:,} {name}"), layout().verdict(name)[1]) for name, number in counts]
    return [part for span in spans for part in (Styled(", "), span)][1:]


def _show_groups(by: str, groups: Sequence[Group], *, of_tag: bool = False) -> None:
    from sidestream.cli.rendering import show_table
    from sidestream.terminal.text import sanitize

    most = max(group.count for group in groups)
    head = f"tag {sanitize(by)}" if of_tag else by
    scored = any(group.scores for group in groups)
    rows = [_row(head, group, most, scored=scored) for group in groups]
    show_table(
        rows,
        right=set(rows[0]) - {head, "other outcomes", "scores", " "},
        elastic=(head, "other outcomes", "scores"),
        spare=(" ", "ttft p95", "ttft p50", "p99", "p95", "tokens"),
    )


def _scores(group: Group) -> str:
    """Mean or most frequent label of each score, and the number of runs."""
    from sidestream.terminal.text import sanitize

    texts = []
    for name, sums in group.scores.items():
        label = max(sums.labels, key=lambda each: sums.labels[each], default="")
        texts.append(f"{name} {label if sums.mean is None else f'{sums.mean:.3g}'} ({sums.count:,})")
    return sanitize(", ".join(texts))


def _row(by: str, group: Group, most: int, *, scored: bool) -> dict[str, TableCell]:
    from sidestream.cli.rendering import meter, own_cost, own_tokens
    from sidestream.terminal.numbers import humanize_seconds
    from sidestream.terminal.text import sanitize

    times, first = group.duration, group.time_to_first_token
    of_runs: dict[str, TableCell] = {"tokens": own_tokens(group), "cost": own_cost(group)}
    first_token: dict[str, TableCell] = {
        "ttft p50": humanize_seconds(first.p50 if first else None),
        "ttft p95": humanize_seconds(first.p95 if first else None),
    }
    return {
        by: sanitize(group.name or "(none)"),
        COUNTED.get(by, "runs"): f"{group.count:,}",
        **({} if by == "tool" else of_runs),
        "p50": humanize_seconds(times.p50 if times else None),
        "p95": humanize_seconds(times.p95 if times else None),
        "p99": humanize_seconds(times.p99 if times else None),
        **({} if by == "tool" else first_token),
        **({" ": meter(group.count / most, 20)} if by in ("hour", "day") else {}),
        **({"scores": _scores(group)} if scored else {}),
        "other outcomes": _ends(group),
    }
