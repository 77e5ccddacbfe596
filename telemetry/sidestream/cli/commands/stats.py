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
    from sidestream.cli.rendering import table

    most = max(group.count for group in groups)
    rows = [_row(by, group, most) for group in groups]
    return table(
        rows,
        right=set(rows[0]) - {by, "not as hoped", " "},
        elastic=(by, "not as hoped"),
        spare=(" ", "ttft p95", "ttft p50", "p99", "p95", "tokens"),
    )


def _row(by: str, group: Group, most: int) -> dict[str, str | Text]:
    from sidestream.cli.rendering import cell, meter, own_cost, own_tokens
    from sidestream.terminal.numbers import humanize_seconds

    times, first, ends = group.duration, group.time_to_first_token, _ends(group)
    ends.no_wrap, ends.overflow = True, "ellipsis"
    of_runs: dict[str, str | Text] = {"tokens": own_tokens(group), "cost": own_cost(group)}
    first_token: dict[str, str | Text] = {
        "ttft p50": humanize_seconds(first.p50 if first else None),
        "ttft p95": humanize_seconds(first.p95 if first else None),
    }
    return {
        by: cell(group.name or "(none)"),
        COUNTED[by]: f"{group.count:,}",
        **({} if by == "tool" else of_runs),
        "p50": humanize_seconds(times.p50 if times else None),
        "p95": humanize_seconds(times.p95 if times else None),
        "p99": humanize_seconds(times.p99 if times else None),
        **({} if by == "tool" else first_token),
        **({" ": meter(group.count / most, 20)} if by == "hour" else {}),
        "not as hoped": ends,
    }
