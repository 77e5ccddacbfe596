"""Totals of runs, model requests and tool calls by agent, model, tool, hour, day and tag.

Totals sum each run's own cost, never its cost with sub-agents, because each sub-agent is a run of the log itself.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from sidestream.events import Usage, counts_are_bounds
from sidestream.events.bounds import Figure
from sidestream.log.index.parts import Facts, RequestFacts, ScoreFacts

from .quantiles import Quantiles, quantiles
from .summary import TOKENS, RunSummary, sum_usd


class ScoreSums(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Distribution of the latest scores of one name over several runs."""

    count: int
    """Number of runs with the score."""
    mean: float | None = None
    """Mean of the values, true as 1; None if no score has a value."""
    min: float | None = None
    max: float | None = None
    labels: dict[str, int] = {}
    """Number of runs by label."""


class Group(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Totals of a group of runs, model requests or tool calls."""

    name: str | None
    """Agent, model, tool, tag value, hour (UTC) as `2026-11-20T09:00Z`, or day (UTC); None if a run has none."""
    count: int
    """Number of runs, model requests or tool calls in the group."""
    outcomes: dict[str, int]
    """Number by outcome."""
    usage: Usage | None = None
    total_tokens: int | None = None
    cost_usd: float | None = None
    """Cost in US dollars; None if no request was priced."""
    unpriced_requests: int = 0
    """Number of requests that used tokens without a known price."""
    partial_requests: int = 0
    """Number of requests that were cut off before their whole usage was known."""
    unmeasured_requests: int = 0
    """Number of requests that were answered but reported no usage."""
    unended_runs: int = 0
    """Number of runs without an end in the log, whose usage after the last whole request is unknown."""
    duration: Quantiles | None = None
    time_to_first_token: Quantiles | None = None
    """Time to the first token; for runs, of their first request."""
    scores: dict[str, ScoreSums] = {}
    """Scores of the runs by name."""
    requests: int | None = None
    tool_calls: int | None = None
    retries: int | None = None

    def is_lower_bound(self, figure: Figure) -> bool:
        """Whether the true `usage` or `cost` may be higher than the sum."""
        return self.unended_runs > 0 or counts_are_bounds(
            figure,
            partial=self.partial_requests,
            unmeasured=self.unmeasured_requests,
            unpriced=self.unpriced_requests,
        )


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of a log."""

    total: Group
    """All runs."""
    by_agent: list[Group]
    """Runs by agent, the most expensive agent first."""
    by_model: list[Group]
    """Model requests by model, the most expensive model first."""
    by_tool: list[Group]
    """Tool calls by tool, the most used tool first."""
    by_hour: list[Group]
    """Runs by the hour (UTC) of their start."""
    by_day: list[Group]
    """Runs by the day (UTC) of their start."""
    by_attempt: list[Group]
    """Runs that are attempts (`sidecar.attempts()`), by the number of the attempt: `1`, `2` …"""
    by_tag: dict[str, list[Group]]
    """Runs by value, for each requested tag."""
    missing_events: int
    """Number of events that are not in the log."""

    def _repr_html_(self) -> str:
        """HTML for notebooks."""
        from sidestream.log.html import statistics_html

        return statistics_html(self)


def summed(runs: Iterable[tuple[RunSummary, Facts | None]], tags: Iterable[str]) -> Statistics:
    """Statistics of `runs`, also by the values of `tags`."""
    total, missing = _Tally(), 0
    agents, hours, days, attempts, models, tools = (defaultdict[str | None, _Tally](_Tally) for _ in range(6))
    by_tag = {name: defaultdict[str | None, _Tally](_Tally) for name in tags}
    for run, facts in runs:
        missing += run.missing
        tagged = (values[run.tags.get(name)] for name, values in by_tag.items())
        tried = [attempts[str(run.attempt)]] if run.attempt is not None else []
        for tally in (total, agents[run.agent_name], hours[_hour(run)], days[_day(run)], *tried, *tagged):
            tally.add_run(run)
        for request in facts.requests if facts else ():
            models[request.model].add_request(request)
        for tool in facts.tools if facts else ():
            tools[tool.tool_name].add(tool.outcome, tool.duration_seconds)
    return arranged(
        total=total.group(None),
        agents=_groups(agents),
        models=_groups(models),
        tools=_groups(tools),
        hours=_groups(hours),
        days=_groups(days),
        attempts=_groups(attempts),
        by_tag={name: _groups(values) for name, values in by_tag.items()},
        missing_events=missing,
    )


def arranged(
    *,
    total: Group,
    agents: list[Group],
    models: list[Group],
    tools: list[Group],
    hours: list[Group],
    days: list[Group],
    attempts: list[Group],
    by_tag: dict[str, list[Group]],
    missing_events: int,
) -> Statistics:
    """Statistics of these groups, each list in its order."""
    return Statistics(
        total=total,
        by_agent=sorted(agents, key=_by_cost),
        by_model=sorted(models, key=_by_cost),
        by_tool=sorted(tools, key=lambda group: (-group.count, group.name or "")),
        by_hour=sorted(hours, key=lambda group: group.name or ""),
        by_day=sorted(days, key=lambda group: group.name or ""),
        by_attempt=sorted(attempts, key=lambda group: int(group.name or 0)),
        by_tag={name: sorted(groups, key=_by_cost) for name, groups in by_tag.items()},
        missing_events=missing_events,
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
    """Accumulator of the totals of one group."""

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
        # The duration of a run in progress is not final, and would bias the quantiles.
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
