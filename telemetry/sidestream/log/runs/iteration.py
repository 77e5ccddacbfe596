"""Runs and events of a log, by filter."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from sidestream.events import AnyEvent
from sidestream.log.files import Paths
from sidestream.log.open_store import store_of
from sidestream.log.reader import OnProblem, Skipped, decode_block, decoder_of

from .filters import Filter
from .lists import RunList
from .summary import RunSummary


def runs(paths: Paths = "runs/", where: Filter | None = None, *, on_problem: OnProblem | None = None) -> RunList:
    """Runs of a log, sorted by start. A notebook displays the list as a table.

    Args:
        paths: folders, files or globs, as for `log_files`.
        where: filter of the runs; None for all.
        on_problem: called for each unreadable line.

    Raises what `read` raises.
    """
    return RunList(sorted((run for run, _ in store_of(paths).summaries(where, on_problem=on_problem)), key=when))


def events(
    paths: Paths = "runs/",
    *,
    types: Collection[str] | None = None,
    where: Filter | None = None,
    on_problem: OnProblem | None = None,
) -> Iterator[AnyEvent]:
    """Events of a log, as `read` returns them; with `where`, only those of matching runs.

    Raises what `read` raises.
    """
    store = store_of(paths)
    wanted = None if where is None else {run.run_id for run, _ in store.summaries(where)}
    stretches = store.stretches(wanted, on_problem)
    decoder = decoder_of(None if types is None else frozenset(types))
    return (
        event
        for file, blocks in stretches
        for block in blocks
        for event in decode_block(block, decoder, file, on_problem)
        if not isinstance(event, Skipped) and (wanted is None or event.run_id in wanted)
    )


def when(run: RunSummary) -> tuple[float, str]:
    """Sort key of runs by start; unknown starts come first."""
    return (run.started.timestamp() if run.started is not None else -math.inf, run.run_id)
