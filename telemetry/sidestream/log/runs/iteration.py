"""Runs and events of a log, by filter."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from sidestream.events import AnyEvent
from sidestream.log.files import Paths
from sidestream.log.index.listing import every_run
from sidestream.log.reader import OnProblem, read

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
    found = (run for run, _ in every_run(paths, on_problem=on_problem))
    return sorted((run for run in found if where is None or where.matches(run)), key=when)


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
    found = read(paths, types=types, on_problem=on_problem)
    if where is None:
        return found
    wanted = {run.run_id for run in runs(paths, where)}
    return (event for event in found if event.run_id in wanted)


def when(run: RunSummary) -> tuple[float, str]:
    """The order of runs: by the time they began."""
    return (run.started.timestamp() if run.started is not None else -math.inf, run.run_id)
