"""Statistics: what the runs of a log did, used and cost, by agent, model, tool, hour, day and tag.

A run's own cost is summed, never its cost with sub-agents: each sub-agent is a run of the log itself.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from sidestream.events import Usage, counts_are_bounds
from sidestream.events.bounds import Figure
from sidestream.log.files import Paths
from sidestream.log.index.parts import RequestFacts, ScoreFacts
from sidestream.log.open_store import store_of
from sidestream.log.reader import OnProblem

from .filters import Filter
from .quantiles import Quantiles, quantiles
from .summary import TOKENS, RunSummary, sum_usd


class ScoreSums(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the latest scores of one name of several runs come to."""

    count: int
    """Runs that have it."""
    mean: float | None = None
    """Of those with a value; true counts as 1."""
    min: float | None = None
    max: float | None = None
    labels: dict[str, int] = {}
    """How many have which label."""


class Group(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What several runs, requests or tool calls have in common, and what they add up to."""

    name: str | None
    """Of the agent, model or tool, or the tag's value; the hour (UTC), as `2026-11-20T09:00Z`, or the day (UTC); None
    where it has none."""
    count: int
    """Runs, model requests or tool calls, as the table says."""
    outcomes: dict[str, int]
    """How many of them ended how."""
    usage: Usage | None = None
    total_tokens: int | None = None
    cost_usd: float | None = None
    """None where nothing was priced."""
    unpriced_requests: int = 0
    """Requests that used tokens of which no price is known."""
    partial_requests: int = 0
    """Requests that were cut off before their whole usage was known."""
    unmeasured_requests: int = 0
    """Requests that were answered without anybody telling what they used."""
    unended_runs: int = 0
    """Runs whose end is not in the log: what they used since their last whole request is not known."""
    duration: Quantiles | None = None
    time_to_first_token: Quantiles | None = None
    """Of runs: of their first request."""
    scores: dict[str, ScoreSums] = {}
    """Of runs: what was thought of them, by name of the score."""
    requests: int | None = None
    tool_calls: int | None = None
    retries: int | None = None

    def is_lower_bound(self, figure: Figure) -> bool:
        """Whether the sum of `usage` or `cost` is less than what was really used."""
        return self.unended_runs > 0 or counts_are_bounds(
            figure,
            partial=self.partial_requests,
            unmeasured=self.unmeasured_requests,
            unpriced=self.unpriced_requests,
        )


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of a log."""

    total: Group
    """Of runs."""
    by_agent: list[Group]
    """Of runs, the most expensive agent first."""
    by_model: list[Group]
    """Of model requests."""
    by_tool: list[Group]
    """Of tool calls, the most used tool first."""
    by_hour: list[Group]
    """Of runs, by the hour in which they began."""
    by_day: list[Group]
    """Of runs, by the day (UTC) in which they began."""
    by_attempt: list[Group]
    """Of runs that are tries of something (`sidecar.attempts()`), by which try they are: `1`, `2` …"""
    by_tag: dict[str, list[Group]]
    """Of runs, for each tag that was asked for, by its value."""
    missing_events: int
    """Events that are not in the log."""

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from sidestream.log.html import statistics_html

        return statistics_html(self)


def statistics(
    paths: Paths = "runs/",
    where: Filter | None = None,
    *,
    tags: Iterable[str] = (),
    on_problem: OnProblem | None = None,
) -> Statistics:
    """The statistics of those runs of a log that `where` takes, by the values of `tags` as well.

    Raises `ConfigurationError` where a path leads nowhere.
    """
    total, missing = _Tally(), 0
    agents, hours, days, attempts, models, tools = (defaultdict[str | None, _Tally](_Tally) for _ in range(6))
    by_tag = {name: defaultdict[str | None, _Tally](_Tally) for name in tags}
    for run, facts in store_of(paths).summaries(where, facts=True, on_problem=on_problem):
        missing += run.missing
        tagged = (values[run.tags.get(name)] for name, values in by_tag.items())
        tried = [attempts[str(run.attempt)]] if run.attempt is not None else []
        for tally in (total, agents[run.agent_name], hours[_hour(run)], days[_day(run)], *tried, *tagged):
            tally.add_run(run)
        for request in facts.requests if facts else ():
            models[request.model].add_request(request)
        for tool in facts.tools if facts else ():
            tools[tool.tool_name].add(tool.outcome, tool.duration_seconds)
    return Statistics(
        total=total.group(None),
        by_agent=sorted(_groups(agents), key=_by_cost),
        by_model=sorted(_groups(models), key=_by_cost),
        by_tool=sorted(_groups(tools), key=lambda group: (-group.count, group.name or "")),
        by_hour=sorted(_groups(hours), key=lambda group: group.name or ""),
        by_day=sorted(_groups(days), key=lambda group: group.name or ""),
        by_attempt=sorted(_groups(attempts), key=lambda group: int(group.name or 0)),
        by_tag={name: sorted(_groups(values), key=_by_cost) for name, values in by_tag.items()},
        missing_events=missing,
    )


def _hour(run: RunSummary) -> str | None:
    return f"{run.started.isoformat()[:13]}:00Z" if run.started is not None else None


def _day(run: RunSummary) -> str | None:
    return run.started.isoformat()[:10] if run.started is not None else None


def _by_cost(group: Group) -> tuple[float, int, str]:
    return (-(group.cost_usd or 0.0), -group.count, group.name or "")


def _groups(tallies: dict[str | None, _Tally]) -> list[Group]:
    return [tally.group(name) for name, tally in tallies.items()]


class _Tally:
    """Adds up what a group has in common."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.durations: list[float] = []
        self.first_tokens: list[float] = []
        self.usages: Counter[str] = Counter()
        self.total_tokens: int | None = None
        self.costs: list[float] = []
        self.unpriced = self.partial = self.unmeasured = self.unended = 0
        self.of_runs: Counter[str] = Counter()
        self.scores: defaultdict[str, list[ScoreFacts]] = defaultdict(list)

    def add(self, outcome: str, duration: float | None, first_token: float | None = None) -> None:
        self.outcomes[outcome] += 1
        if duration is not None:
            self.durations.append(duration)
        if first_token is not None:
            self.first_tokens.append(first_token)

    def add_run(self, run: RunSummary) -> None:
        # How long a run takes is not known before it is over.
        duration = None if run.outcome == "running" else run.duration_seconds
        self.add(run.outcome, duration, run.time_to_first_token_seconds)
        self.add_used(run.usage, run.total_tokens, run.cost_usd)
        self.unpriced += run.unpriced_requests
        self.partial += run.partial_requests
        self.unmeasured += run.unmeasured_requests
        self.unended += run.outcome in ("running", "lost")
        for score in run.scores:
            self.scores[score.name].append(score)
        of_runs = self.of_runs
        of_runs["requests"] += run.requests
        of_runs["tool_calls"] += run.tool_calls
        of_runs["retries"] += run.retries

    def add_request(self, facts: RequestFacts) -> None:
        self.add(facts.outcome, facts.duration_seconds, facts.time_to_first_token_seconds)
        usage = facts.usage
        self.add_used(usage, usage.total_tokens if usage else None, facts.cost_usd)
        self.unpriced += facts.unpriced
        self.partial += facts.partial
        self.unmeasured += facts.unmeasured

    def add_used(self, usage: Usage | None, tokens: int | None, cost: float | None) -> None:
        if usage is not None:
            for name in TOKENS:
                if (count := getattr(usage, name)) is not None:
                    self.usages[name] += count
        if tokens is not None:
            self.total_tokens = (self.total_tokens or 0) + tokens
        if cost is not None:
            self.costs.append(cost)

    def group(self, name: str | None) -> Group:
        return Group(
            name=name,
            count=self.outcomes.total(),
            outcomes=dict(sorted(self.outcomes.items())),
            usage=Usage(**self.usages) if self.usages else None,  # type: ignore[arg-type]
            total_tokens=self.total_tokens,
            cost_usd=sum_usd(self.costs),
            unpriced_requests=self.unpriced,
            partial_requests=self.partial,
            unmeasured_requests=self.unmeasured,
            unended_runs=self.unended,
            duration=quantiles(self.durations),
            time_to_first_token=quantiles(self.first_tokens),
            scores={name: _score_sums(scores) for name, scores in sorted(self.scores.items())},
            **self.of_runs,
        )


def _score_sums(scores: Sequence[ScoreFacts]) -> ScoreSums:
    numbers = [number for each in scores if (number := each.number) is not None]
    return ScoreSums(
        count=len(scores),
        mean=math.fsum(numbers) / len(numbers) if numbers else None,
        min=min(numbers, default=None),
        max=max(numbers, default=None),
        labels=dict(sorted(Counter(each.label for each in scores if each.label is not None).items())),
    )
