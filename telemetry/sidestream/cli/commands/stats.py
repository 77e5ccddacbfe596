"""`sidestream stats`: what the runs of a log did, used and cost, summed up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Paths, Unread, choosing_runs, no_runs
from sidestream.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from sidestream.log import Filter, Statistics
    from sidestream.log.runs.stats import Group

TABLES = ("agent", "model", "tool", "hour")
COUNTED = {"agent": "runs", "model": "requests", "tool": "calls", "hour": "runs"}


@choosing_runs
def stats(
    where: Filter,
    paths: Paths = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="WHAT", help="agent, model, tool or hour. Repeatable. Default: agent, model and tool."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sum up a log by agent, model, tool, hour.

    How many runs, requests and tool calls, how they ended, tokens, cost, and how long they took. p50 is the median; 95
    of 100 took no longer than p95. Hours are UTC. A run's cost is its own, without that of its sub-agents, so nothing
    is counted twice. With --json: sidestream.log.Statistics, with all four tables.

    Example:  sidestream stats --since 24h

    Example:  sidestream stats --by hour --agent support --json
    """
    from sidestream.cli.rendering import busy, show, write_json
    from sidestream.log import statistics

    wanted = list(dict.fromkeys(by or TABLES[:3]))
    if unknown := [each for each in wanted if each not in TABLES]:
        raise ConfigurationError(f"stats: --by {unknown[0]!r}: choose from {', '.join(TABLES)}")
    unread = Unread()
    log = paths or [DEFAULT_LOG]
    with busy(log):
        found = statistics(log, where, on_problem=unread)
    if as_json:
        write_json(found)
    elif found.total.count:
        show(_total(found))
        for each in wanted:
            groups = getattr(found, f"by_{each}")
            if groups:
                show("", _table(each, groups))
    unread.say()
    if not found.total.count:
        raise no_runs(where)


def _total(found: Statistics) -> Text:
    from rich.text import Text

    from sidestream.cli.rendering import DIM, ODD, own_cost, own_tokens
    from sidestream.terminal.numbers import counted

    total = found.total
    facts = [
        own_tokens(total),
        own_cost(total),
        counted(total.requests, "request"),
        counted(total.tool_calls, "tool call"),
        counted(total.retries, "retry") if total.retries else "",
    ]
    text = Text(counted(total.count, "run") + "  ").append(_ends(total, apart_from=()))
    text.append("\n" + "  ".join(fact for fact in facts if fact), DIM)
    if found.missing_events:
        text.append(f"  {counted(found.missing_events, 'event')} not in the log", ODD)
    return text


def _ends(group: Group, apart_from: Sequence[str] = ("ok", "completed")) -> Text:
    """How many ended how, the usual end left out."""
    from rich.text import Text

    from sidestream.cli.rendering import outcome_style

    words = [
        Text(f"{number:,} {name}", outcome_style(name))
        for name, number in sorted(group.outcomes.items(), key=lambda item: -item[1])
        if name not in apart_from
    ]
    return Text(", ").join(words)


def _table(by: str, groups: Sequence[Group]) -> Table:
    from sidestream.cli.rendering import NARROW, cell, meter, own_cost, own_tokens, table, width
    from sidestream.terminal.numbers import humanize_seconds

    tools, hours, narrow = by == "tool", by == "hour", width() < NARROW
    most = max(group.count for group in groups)
    columns = [by, COUNTED[by]]
    columns += [] if tools else ["tokens", "cost"]
    columns += ["p50", "p95"] + ([] if narrow else ["p99"])
    columns += [] if tools or narrow else ["ttft p50", "ttft p95"]
    columns += ([" "] if hours and not narrow else []) + ["not as hoped"]
    made = table(*columns, right=set(columns) - {by, "not as hoped", " "}, elastic=(by, "not as hoped"))
    for group in groups:
        times, first = group.duration, group.time_to_first_token
        cells: list[str | Text] = [cell(group.name or "(none)"), f"{group.count:,}"]
        if not tools:
            cells += [own_tokens(group), own_cost(group)]
        cells += [humanize_seconds(times.p50 if times else None), humanize_seconds(times.p95 if times else None)]
        if not narrow:
            cells.append(humanize_seconds(times.p99 if times else None))
        if not tools and not narrow:
            cells += [humanize_seconds(first.p50 if first else None), humanize_seconds(first.p95 if first else None)]
        if hours and not narrow:
            cells.append(meter(group.count / most, 20))
        ends = _ends(group)
        ends.no_wrap, ends.overflow = True, "ellipsis"
        made.add_row(*cells, ends)
    return made
