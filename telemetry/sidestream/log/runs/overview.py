"""Overview of many runs for lists: how they ended, what they cost and how long they took over time, and their names."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

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

    def and_of(self, *, agents: Iterable[str], models: Iterable[str], tools: Iterable[str]) -> RunNames:
        """These names and others."""
        return RunNames(
            agents=sorted({*self.agents, *agents} - {""}),
            models=sorted({*self.models, *models}),
            tools=sorted({*self.tools, *tools}),
        )


class TimedRun(NamedTuple):
    """What the overview of many runs tells of one."""

    at: float
    """When it began: seconds since 1970."""
    outcome: str
    cost_usd: float | None
    is_bound: bool
    """Whether the cost is a lower bound."""
    duration_seconds: float | None
    """None while it is running."""


def timed(runs: Iterable[RunSummary], *, with_sub_agents: bool) -> list[TimedRun]:
    """Those of `runs` of which a time is known; their cost with that of their sub-agents, or their own."""
    return [
        TimedRun(
            run.started.timestamp(),
            run.outcome,
            run.whole_cost_usd if with_sub_agents else run.cost_usd,
            run.is_lower_bound("cost", with_children=with_sub_agents),
            None if run.outcome == "running" else run.duration_seconds,
        )
        for run in runs
        if run.started is not None
    ]


def over_time(runs: Iterable[RunSummary], bins: int, *, with_sub_agents: bool) -> RunsOverTime:
    """`runs` in so many `bins`; their cost with that of their sub-agents, or their own."""
    return in_bins(timed(runs, with_sub_agents=with_sub_agents), bins)


def in_bins(runs: Sequence[TimedRun], bins: int) -> RunsOverTime:
    """`runs` in so many `bins`."""
    if not runs:
        return RunsOverTime()
    edges = edges_of(min(run.at for run in runs), max(run.at for run in runs), bins)
    within: list[list[TimedRun]] = [[] for _ in range(bins)]
    for run in runs:
        within[bin_of(run.at, edges)].append(run)
    return RunsOverTime(
        bins=[_bin(edges[number], edges[number + 1], its) for number, its in enumerate(within)],
        duration=quantiles([run.duration_seconds for run in runs]),
    )


def edges_of(first: float, last: float, bins: int) -> list[float]:
    """Edges of `bins` spans of time, in seconds since 1970, that take in all from `first` to `last`."""
    size = max((last - first) / bins, 0.001)
    return [*(first + number * size for number in range(bins)), max(last, first + (bins - 1) * size) + 0.001]


def bin_of(at: float, edges: Sequence[float]) -> int:
    """Number of the span of time that `at` is in."""
    return min(len(edges) - 2, int((at - edges[0]) / (edges[1] - edges[0])))


def _bin(since: float, until: float, runs: list[TimedRun]) -> TimeBin:
    known = [run.cost_usd for run in runs if run.cost_usd is not None]
    return TimeBin(
        since=moment(since),
        until=moment(until),
        outcomes=dict(Counter(run.outcome for run in runs).most_common()),
        cost_usd=math.fsum(known) if known else None,
        cost_bounds=sum(run.is_bound for run in runs),
        duration=quantiles([run.duration_seconds for run in runs]),
    )


def moment(seconds: float) -> datetime:
    """The time so many seconds after the beginning of 1970, the last one that can be told for those after it."""
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def names(runs: Iterable[RunSummary]) -> RunNames:
    """The names in `runs`."""
    every = list(runs)
    return RunNames(agents=[], models=[], tools=[]).and_of(
        agents=(run.agent_name or "" for run in every),
        models=(model for run in every for model in run.models),
        tools=(tool for run in every for tool in run.tools),
    )
