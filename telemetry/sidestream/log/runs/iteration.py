"""Runs and events of a log, by filter."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from sidestream.events import AnyEvent
from sidestream.log.files import Paths
from sidestream.log.open_store import store_of
from sidestream.log.reader import OnProblem, Skipped, decode_block, decoder_of

from .filters import Filter
from .summary import RunSummary


def runs(
    paths: Paths = "runs/", where: Filter | None = None, *, on_problem: OnProblem | None = None
) -> list[RunSummary]:
    """The runs of a log, the newest last.

    Args:
        paths: folders, files or globs, as for `log_files`.
        where: which of them; None for all.
        on_problem: called for each line that could not be read.

    Raises what `read` raises.
    """
    return sorted((run for run, _ in store_of(paths).summaries(where, on_problem=on_problem)), key=when)


def events(
    paths: Paths = "runs/",
    *,
    types: Collection[str] | None = None,
    where: Filter | None = None,
    on_problem: OnProblem | None = None,
) -> Iterator[AnyEvent]:
    """The events of a log, as `read` gives them; with `where`, those of the runs that it takes.

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
    """The order of runs: by the time they began."""
    return (run.started.timestamp() if run.started is not None else -math.inf, run.run_id)
