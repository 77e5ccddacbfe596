"""Overview of many runs for lists: outcomes, cost and duration over time, and names for filters."""

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
    """Totals of the runs that started from `since` to before `until`."""

    since: datetime
    until: datetime
    outcomes: dict[str, int]
    """Number of runs by outcome, the most frequent first."""
    cost_usd: float | None
    """Sum in US dollars; None if no cost is known."""
    cost_bounds: int
    """Number of runs whose cost is a lower bound."""
    duration: Quantiles | None
    """Durations of the runs that are not running."""


class RunsOverTime(msgspec.Struct, frozen=True, kw_only=True):
    """Totals in intervals of equal length, from the first known start to the last."""

    bins: list[TimeBin] = []
    """Empty if no start is known."""
    duration: Quantiles | None = None
    """Durations of all runs that are not running."""


class RunNames(msgspec.Struct, frozen=True, kw_only=True):
    """Names for filters, each once, sorted."""

    agents: list[str]
    models: list[str]
    tools: list[str]

    def and_of(self, *, agents: Iterable[str], models: Iterable[str], tools: Iterable[str]) -> RunNames:
        """These names and the given ones."""
        return RunNames(
            agents=sorted({*self.agents, *agents} - {""}),
            models=sorted({*self.models, *models} - {""}),
            tools=sorted({*self.tools, *tools}),
        )


class TimedRun(NamedTuple):
    """Facts of one run for the overview."""

    at: float
    """Start in seconds since 1970."""
    outcome: str
    cost_usd: float | None
    is_bound: bool
    """Whether the cost is a lower bound."""
    duration_seconds: float | None
    """None while the run is running."""


def timed(runs: Iterable[RunSummary], *, with_sub_agents: bool) -> list[TimedRun]:
    """Facts of the runs with a known start; their cost with or without sub-agents."""
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
    """`runs` in `bins` intervals; their cost with or without sub-agents."""
    return in_bins(timed(runs, with_sub_agents=with_sub_agents), bins)


def in_bins(runs: Sequence[TimedRun], bins: int) -> RunsOverTime:
    """`runs` in `bins` intervals."""
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
    """Edges of `bins` intervals from `first` to `last`, in seconds since 1970."""
    size = max((last - first) / bins, 0.001)
    return [*(first + number * size for number in range(bins)), max(last, first + (bins - 1) * size) + 0.001]


def bin_of(at: float, edges: Sequence[float]) -> int:
    """Index of the interval that contains `at`."""
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
    """UTC time of Unix time `seconds`; the last representable time if `seconds` is beyond it."""
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def names(runs: Iterable[RunSummary]) -> RunNames:
    """Names that occur in `runs`."""
    every = list(runs)
    return RunNames(agents=[], models=[], tools=[]).and_of(
        agents=(run.agent_name or "" for run in every),
        models=(model for run in every for model in (run.model or "", *run.models)),  # a filter tests both
        tools=(tool for run in every for tool in run.tools),
    )
