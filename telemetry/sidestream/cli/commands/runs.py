"""`sidestream runs`: a table of the runs of a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, StoredLog, Unread, choosing_runs, no_runs

if TYPE_CHECKING:
    from sidestream.log import Filter, RunSummary
    from sidestream.terminal.table import TableCell

SHOWN = 50
"""Maximum runs in the table without --all and --limit."""


@choosing_runs
def runs(
    where: Filter,
    paths: StoredLog = None,
    last: Annotated[
        int | None,
        typer.Option("-n", "--limit", metavar="N", min=1, help=f"The last N. Default of the table: {SHOWN}."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show all runs in the table.")] = False,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="started, duration, cost, tokens or first_token, the largest first; -cost: the smallest.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs of a log.

    The newest run is last; sub-agents are below the run that called them. With --sort, the largest is first, and
    sub-agents are not indented. Cost is a run's own, without sub-agents, so that the column can be summed. With --json:
    a list of all runs, with every field of sidestream.log.RunSummary.

    Example:  sidestream runs --since 2h --outcome error

    Example:  sidestream runs --tool 'look*' --slower 1ms --sort cost -n 10

    Example:  sidestream runs 'logs/*.jsonl.gz' --agent support --tag tenant=acme --json
    """
    from sidestream.cli.rendering import NARROW, busy, show_table, width, write_json
    from sidestream.log import Order
    from sidestream.log import runs as read_runs
    from sidestream.log.runs.naming import id_length

    order = Order.parse(sort) if sort else None
    unread = Unread()
    log = paths or [DEFAULT_LOG]
    with busy(log):
        known = read_runs(log, on_problem=unread)
    if order is not None:
        found = [(run, 0) for run in order.sorted(run for run in known if where.matches(run))]
    else:
        found = [(run, depth) for run, depth in in_tree(known) if where.matches(run)]
    limit = last or (None if as_json or everything else SHOWN)
    shown = found if limit is None else found[:limit] if order is not None else found[-limit:]
    if as_json:
        write_json([run for run, _ in shown])
    elif shown:
        length, short = id_length((run for run, _ in shown), known), width() < NARROW
        show_table(
            [_row(run, depth, length, short=short) for run, depth in shown],
            right=("took", "tokens", "cost", "1st token"),
            elastic=("agent", "model", "notes"),
            spare=("1st token", "model", "notes", "tokens", "started"),
        )
    unread.report()
    if not found:
        raise no_runs(where)
    if not as_json and len(shown) < len(found) and not last:
        import sys

        which = "first" if order is not None else "last"
        print(
            f"The {which} {len(shown):,} of {len(found):,} runs; --all shows every one.",
            file=sys.stderr,
        )


def in_tree(known: Sequence[RunSummary]) -> list[tuple[RunSummary, int]]:
    """Runs with their depth; sub-agents follow the run that called them."""
    below: dict[str | None, list[RunSummary]] = {}
    ids = {run.run_id for run in known}
    for run in known:
        parent = run.parent_run_id if run.parent_run_id != run.run_id else None
        below.setdefault(parent if parent in ids else None, []).append(run)
    ordered: list[tuple[RunSummary, int]] = []
    waiting = [(run, 0) for run in reversed(below.get(None, []))]
    while waiting:
        run, depth = waiting.pop()
        ordered.append((run, depth))
        waiting += [(child, depth + 1) for child in reversed(below.get(run.run_id, []))]
    reached = {run.run_id for run, _ in ordered}
    return ordered + [(run, 0) for run in known if run.run_id not in reached]  # runs that form a cycle of parents


def _row(run: RunSummary, depth: int, length: int, *, short: bool) -> dict[str, TableCell]:
    from sidestream.cli.rendering import local, outcome_cell, own_cost, own_tokens
    from sidestream.terminal.numbers import humanize_seconds
    from sidestream.terminal.text import sanitize

    return {
        "started": local(run.started)[5:] if short else local(run.started),
        "agent": sanitize("  " * depth + (run.agent_name or "agent")),
        "run": sanitize(run.run_id[-length:]),
        "outcome": outcome_cell(run.outcome),
        "took": humanize_seconds(run.duration_seconds),
        "tokens": own_tokens(run),
        "cost": own_cost(run),
        "1st token": humanize_seconds(run.time_to_first_token_seconds),
        "model": sanitize(run.model or ""),
        "notes": sanitize(_notes(run, length)),
    }


def _notes(run: RunSummary, length: int) -> str:
    from sidestream.cli.rendering import incomplete, score_text
    from sidestream.terminal.numbers import counted

    notes = [
        (run.exception_type or "").rpartition(".")[2] if not run.success else "",
        counted(run.tool_calls, "tool") if run.tool_calls else "",
        counted(run.retries, "retry") if run.retries else "",
        f"attempt {run.attempt} of {(run.attempt_of or '?')[-length:]}" if (run.attempt or 1) > 1 else "",
        *(score_text(each) for each in run.scores),
        incomplete(run),
        " ".join(f"{name}={value}" for name, value in run.tags.items()),
    ]
    return ", ".join(note for note in notes if note)
