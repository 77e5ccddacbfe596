"""Statistics of the runs of a log by agent, model, tool, hour, day and tag."""

from __future__ import annotations

from collections.abc import Iterable

from sidestream.log.files import Paths
from sidestream.log.open_store import store_of
from sidestream.log.reader import OnProblem

from .filters import Filter
from .totals import Statistics


def statistics(
    paths: Paths = "runs/",
    where: Filter | None = None,
    *,
    tags: Iterable[str] = (),
    on_problem: OnProblem | None = None,
) -> Statistics:
    """Statistics of the runs that match `where`, also by the values of `tags`.

    Raises `ConfigurationError` if a path does not exist.
    """
    return store_of(paths).statistics(where, tags=list(tags), on_problem=on_problem)
