"""`sidestream top`: a live screen of the runs in progress."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Paths, choosing_runs
from sidestream.errors import ConfigurationError

if TYPE_CHECKING:
    from sidestream.log import Filter
    from sidestream.log.watching import Watch, Watched
    from sidestream.terminal.table import TableCell

STALLED = 2.0
"""Seconds without an event during a model request, from which a run is shown as stalled."""
_DOING = {"waiting": "waiting for", "generating": "generating", "tool": "tool", "between": "between steps"}

AROUND = 4
"""Lines of the screen other than runs."""


@choosing_runs
def top(
    where: Filter,
    paths: Paths = None,
    once: Annotated[bool, typer.Option("--once", help="Print once and exit; the default in a pipe.")] = False,
    interval: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="Time between updates.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Watch the runs in progress: phase, tokens per second, cost so far, and time since the last event.

    The log is followed while it is written. Tokens per second are estimated from the text of an answer in progress (~),
    and otherwise those of the last answer. Ctrl-C exits. With --json: one list, as with --once.

    Example:  sidestream top logs/ --agent 'support*'

    Example:  sidestream top --once --json
    """
    from sidestream.cli.rendering import is_terminal, write, write_json
    from sidestream.log.files import log_files
    from sidestream.log.open_store import addresses_among
    from sidestream.log.watching import Watch

    log = paths or [DEFAULT_LOG]
    if addresses_among(log):
        raise ConfigurationError("top: a log in ClickHouse cannot be followed: give files, or use `sidestream runs`")
    log_files(*log)
    watch = Watch(log, where)
    if as_json:
        write_json(watch.look(datetime.now(UTC)))
    elif once or not is_terminal():
        write("".join(f"{line}\n" for line in lines(watch.look(datetime.now(UTC)))))
    else:
        _live(watch, interval)
        raise typer.Exit(130)


def _live(watch: Watch, interval: float) -> None:
    """Show the screen until Ctrl-C, handled between updates: during an update, rich would not restore the screen."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    stop = threading.Event()
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)

    def screen() -> Text:
        room = shutil.get_terminal_size().lines - AROUND
        return Text.from_ansi("\n".join(lines(watch.look(datetime.now(UTC)), most=max(room, 1))), no_wrap=True)

    before = signal.signal(signal.SIGINT, lambda number, frame: stop.set())
    try:
        with Live(screen(), console=console, auto_refresh=False, screen=True) as live:
            live.refresh()
            while not stop.wait(interval):
                live.update(screen(), refresh=True)
    finally:
        signal.signal(signal.SIGINT, before)


def lines(runs: Sequence[Watched], most: int | None = None) -> list[str]:
    """Lines of the screen: totals, then one line for each of at most `most` runs."""
    from sidestream.cli.rendering import cost, layout
    from sidestream.log.watching import total_rate
    from sidestream.terminal.numbers import counted
    from sidestream.terminal.table import table_lines

    stalled = sum(is_stalled(run) for run in runs)
    known = [run.cost_usd for run in runs if run.cost_usd is not None]
    facts = [
        f"{counted(len(runs), 'run')} in progress",
        f"{total_rate(runs):,.0f} tokens/s" if runs else "",
        f"{cost(sum(known), any(run.cost_is_lower_bound for run in runs))} so far" if known else "",
        f"{stalled:,} stalled" if stalled else "",
    ]
    shown = list(runs if most is None else runs[:most])
    table = table_lines(
        layout(),
        [_row(run) for run in shown],
        right=("for", "tokens", "tokens/s", "cost"),
        elastic=("agent", "doing"),
        spare=("tokens", "request", "cost"),
    )
    more = [f"and {len(runs) - len(shown):,} more"] if len(shown) < len(runs) else []
    return ["  ".join(fact for fact in facts if fact), *(["", *table] if shown else []), *more]


def is_stalled(run: Watched) -> bool:
    """Whether a model request is in progress but no event has arrived for `STALLED` seconds."""
    return run.phase in ("waiting", "generating") and run.silent_seconds >= STALLED


def _row(run: Watched) -> dict[str, TableCell]:
    from sidestream.cli.rendering import cost
    from sidestream.terminal.layout import YELLOW
    from sidestream.terminal.numbers import humanize_count, humanize_seconds
    from sidestream.terminal.table import Styled
    from sidestream.terminal.text import sanitize

    rate = run.tokens_per_second
    stalled = f"stalled {humanize_seconds(run.silent_seconds)}" if is_stalled(run) else ""
    return {
        "agent": sanitize(("  " if run.parent_run_id else "") + (run.agent_name or "agent")),
        "run": sanitize(run.run_id[-4:]),
        "for": humanize_seconds(run.seconds),
        "doing": sanitize(f"{_DOING[run.phase]} {run.name or ''}".strip()),
        "since": humanize_seconds(run.phase_seconds),
        "request": f"#{run.request}" if run.request else "",
        "tokens": humanize_count(run.tokens),
        "tokens/s": "" if rate is None else f"{'~' if run.is_estimate else ''}{rate:,.0f}",
        "cost": cost(run.cost_usd, run.cost_is_lower_bound),
        " ": Styled(stalled, YELLOW),
    }
