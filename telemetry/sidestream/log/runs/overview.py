"""Overview of many runs for lists: how they ended, what they cost and how long they took over time, and their names."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from .quantiles import Quantiles, quantiles
from .summary import RunSummary


class TimeBin(msgspec.Struct, frozen=True, kw_only=True):
    """The runs that began from `since` to before `until`, added up."""

    since: datetime
    until: datetime
    outcomes: dict[str, int]
    """How many ended how, the most frequent first."""
    cost_usd: float | None
    """None where none is known."""
    cost_bounds: int
    """Runs whose cost is a lower bound."""
    duration: Quantiles | None
    """Of the runs that have ended."""


class RunsOverTime(msgspec.Struct, frozen=True, kw_only=True):
    """Runs in spans of time of the same length, from the first to the last of which a time is known."""

    bins: list[TimeBin] = []
    """Empty where no time is known."""
    duration: Quantiles | None = None
    """Of all runs that have ended."""


class RunNames(msgspec.Struct, frozen=True, kw_only=True):
    """Names that filters can be given, each once and in order."""

    agents: list[str]
    models: list[str]
    tools: list[str]


def over_time(runs: Iterable[RunSummary], bins: int, *, with_sub_agents: bool) -> RunsOverTime:
    """`runs` in so many `bins`; their cost with that of their sub-agents, or their own."""
    timed = [(run.started.timestamp(), run) for run in runs if run.started is not None]
    if not timed:
        return RunsOverTime()
    edges = edges_of(min(at for at, _ in timed), max(at for at, _ in timed), bins)
    within: list[list[RunSummary]] = [[] for _ in range(bins)]
    for at, run in timed:
        within[bin_of(at, edges)].append(run)
    taken = [[run.duration_seconds for run in its if run.outcome != "running"] for its in within]
    return RunsOverTime(
        bins=[
            _bin(edges[number], edges[number + 1], its, taken[number], with_sub_agents)
            for number, its in enumerate(within)
        ],
        duration=quantiles([value for values in taken for value in values]),
    )


def edges_of(first: float, last: float, bins: int) -> list[float]:
    """Edges of `bins` spans of time, in seconds since 1970, that take in all from `first` to `last`."""
    size = max((last - first) / bins, 0.001)
    return [*(first + number * size for number in range(bins)), max(last, first + (bins - 1) * size) + 0.001]


def bin_of(at: float, edges: Sequence[float]) -> int:
    """Number of the span of time that `at` is in."""
    return min(len(edges) - 2, int((at - edges[0]) / (edges[1] - edges[0])))


def _bin(
    since: float, until: float, runs: list[RunSummary], taken: list[float | None], with_sub_agents: bool
) -> TimeBin:
    costs = [run.whole_cost_usd if with_sub_agents else run.cost_usd for run in runs]
    known = [cost for cost in costs if cost is not None]
    return TimeBin(
        since=moment(since),
        until=moment(until),
        outcomes=dict(Counter(run.outcome for run in runs).most_common()),
        cost_usd=math.fsum(known) if known else None,
        cost_bounds=sum(run.is_lower_bound("cost", with_children=with_sub_agents) for run in runs),
        duration=quantiles(taken),
    )


def moment(seconds: float) -> datetime:
    """The time so many seconds after the beginning of 1970, the last one that can be told for those after it."""
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def names(runs: Iterable[RunSummary]) -> RunNames:
    """The names in `runs`."""
    agents: set[str] = set()
    models: set[str] = set()
    tools: set[str] = set()
    for run in runs:
        if run.agent_name:
            agents.add(run.agent_name)
        models.update(run.models)
        tools.update(run.tools)
    return RunNames(agents=sorted(agents), models=sorted(models), tools=sorted(tools))
