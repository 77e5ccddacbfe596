"""Summary of one run: who, when, how it ended, what it used and cost, and whether all of it is in the log."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeAlias

import msgspec

from sidestream.events import AgentEnd, AgentStart, RunOutcome, Usage, counts_are_bounds
from sidestream.events.bounds import Figure
from sidestream.log.index.parts import UNKNOWN_MODEL, RunPart, ScoreFacts

SeenOutcome: TypeAlias = RunOutcome | Literal["lost", "running"]
"""How a run ended, as a reader sees it: `lost` if there is no `agent_end` and its writer is gone, `running` if not."""


TOKENS = [name for name in Usage.__struct_fields__ if name.endswith("_tokens")]
"""The fields of `Usage` that are counts of tokens."""


class RunSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One run. What is not known is None. Seconds, tokens, US dollars."""

    run_id: str
    agent_name: str | None = None
    outcome: SeenOutcome
    success: bool | None = None
    """None while it is running."""
    started: datetime | None = None
    """UTC. Where the beginning is not in the log: when the run was first seen."""
    ended: datetime | None = None
    """None while it is running. Of a lost run: when it was last seen."""
    duration_seconds: float | None = None
    """Of a run that is lost or running: up to the last that was seen of it."""
    model: str | None = None
    """The model the agent was set to, else the first that was asked."""
    models: list[str] = []
    """Models that were asked, in order."""
    providers: list[str] = []
    parent_run_id: str | None = None
    parent_tool_call_id: str | None = None
    parent_link: str | None = None
    root_run_id: str
    conversation_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    mode: str | None = None
    tags: dict[str, str] = {}
    attempt: int | None = None
    """Which try of the same thing it is, 1 for the first, where the application says so (`sidecar.attempts()`)."""
    attempt_of: str | None = None
    """Id of the first of them."""
    scores: list[ScoreFacts] = []
    """What was thought of it: the latest of each name, by name. Those before are in its events."""
    host: str | None = None
    pid: int | None = None
    exception_type: str | None = None
    """What ended it, or else what failed last."""
    error_where: str | None = None
    """Where the last error was: `model`, `tool`, `output` or `run`."""
    errors: int = 0
    requests: int = 0
    tool_calls: int = 0
    tools: list[str] = []
    """Names of the tools that were called, in order of their first call."""
    failed_tool_calls: int = 0
    """Tool calls whose outcome is `failed`, `invalid` or `unknown`."""
    retries: int = 0
    sub_agents: int = 0
    usage: Usage | None = None
    """Of its own requests. Of a run without an end: of those that are over, so a lower bound."""
    total_tokens: int | None = None
    cost_usd: float | None = None
    """Of its own requests: sum this one over runs, never `cost_usd_with_children`."""
    usage_with_children: Usage | None = None
    cost_usd_with_children: float | None = None
    """With all sub-agents; None where there were none."""
    unpriced_requests: int = 0
    """Own requests that used tokens of which no price is known."""
    partial_requests: int = 0
    """Own requests that were cut off before their whole usage was known."""
    unmeasured_requests: int = 0
    """Own requests that were answered without anybody telling what they used."""
    incomplete_sub_agents: int = 0
    """Sub-agents that were still going on at the end, or whose own figures are lower bounds."""
    time_to_first_token_seconds: float | None = None
    """Of the first request."""
    stalls: int = 0
    events: int = 0
    """Events that are in the log, each counted once."""
    chunks: int = 0
    """Lines that are `llm_chunk`. With none, the missing events were perhaps never wanted (`chunks=none`)."""
    missing: int = 0
    """Sequence numbers that are not there, up to the highest that is."""
    duplicates: int = 0
    """Lines that are there more than once."""
    files: list[str] = []

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from sidestream.log.html import runs_html

        return runs_html([self])

    @property
    def whole_cost_usd(self) -> float | None:
        """Cost with sub-agents, where there were any."""
        return self.cost_usd if self.cost_usd_with_children is None else self.cost_usd_with_children

    @property
    def whole_tokens(self) -> int | None:
        """Tokens with those of sub-agents, where there were any."""
        return self.total_tokens if self.usage_with_children is None else self.usage_with_children.total_tokens

    @property
    def score_values(self) -> dict[str, bool | float | str]:
        """Value of each score by name; its label where it has none."""
        values = {each.name: each.label if each.value is None else each.value for each in self.scores}
        return {name: value for name, value in values.items() if value is not None}

    def is_lower_bound(self, figure: Figure, *, with_children: bool = False) -> bool:
        """Whether `usage` or `cost` is less than what was really used; of a run without an end it may always be."""
        return self.outcome in ("running", "lost") or counts_are_bounds(
            figure,
            partial=self.partial_requests,
            unmeasured=self.unmeasured_requests,
            unpriced=self.unpriced_requests,
            incomplete_sub_agents=self.incomplete_sub_agents if with_children else 0,
        )


class Liveness(Protocol):
    """Tells whether the writer of a run without an end is still there."""

    def alive(self, start: AgentStart | None, files: list[str]) -> bool:
        """Whether the process that wrote `start`, and its run into `files`, can still write more of the run."""


def summary_of(part: RunPart, files: Iterable[str], writers: Liveness) -> RunSummary:
    """Summary of one run from what the log holds of it."""
    files, events = list(files), part.events
    start = part.start or AgentStart(root_run_id=part.run_id)
    end = part.end or _end_so_far(part)
    last = _after(part.started, part.last_offset) or part.last
    outcome: SeenOutcome = end.outcome if part.end else "running" if writers.alive(part.start, files) else "lost"
    is_running = outcome == "running"
    models = _models(part)
    first = part.requests[0] if part.requests and part.requests[0].request == 1 else None
    error = part.errors[-1] if part.errors else None
    return RunSummary(
        run_id=part.run_id,
        agent_name=part.agent_name,
        outcome=outcome,
        success=None if is_running else end.success,
        started=part.started or part.first,
        ended=part.ended if part.end else None if is_running else last,
        duration_seconds=end.duration_seconds,
        model=start.model or next(iter(models), None),
        models=models,
        providers=list(dict.fromkeys([facts.provider for facts in part.begun if facts.provider])),
        parent_run_id=start.parent_run_id,
        parent_tool_call_id=start.parent_tool_call_id,
        parent_link=start.parent_link,
        root_run_id=part.root_run_id,
        conversation_id=start.conversation_id,
        trace_id=start.trace_id,
        span_id=start.span_id,
        mode=start.mode,
        tags=start.tags or {},
        attempt=start.attempt,
        attempt_of=start.attempt_of,
        scores=latest_scores(part.scores),
        host=start.host,
        pid=start.pid,
        exception_type=end.exception_type or (error.exception_type if error else None),
        error_where=error.where if error else None,
        errors=len(part.errors),
        requests=_first_known(end.total_iterations, len(part.begun)),
        tool_calls=_first_known(end.tool_calls, len(part.tools_begun)),
        tools=part.tool_names,
        failed_tool_calls=sum([tool.outcome in ("failed", "invalid", "unknown") for tool in part.tools]),
        retries=_first_known(end.retries, len(part.retries)),
        sub_agents=end.sub_agents or 0,
        usage=end.usage,
        total_tokens=end.usage.total_tokens if end.usage else end.total_tokens,
        cost_usd=end.cost_usd,
        usage_with_children=end.usage_with_children,
        cost_usd_with_children=end.cost_usd_with_children,
        unpriced_requests=end.unpriced_requests or 0,
        partial_requests=end.partial_requests or 0,
        unmeasured_requests=end.unmeasured_requests or 0,
        incomplete_sub_agents=end.incomplete_sub_agents or 0,
        time_to_first_token_seconds=first.time_to_first_token_seconds if first else None,
        stalls=sum([facts.stalls for facts in part.requests]),
        events=events,
        chunks=part.chunks,
        missing=part.seqs[-1][1] + 1 - events if part.seqs else 0,
        duplicates=part.duplicates,
        files=files,
    )


def latest_scores(scores: Iterable[ScoreFacts]) -> list[ScoreFacts]:
    """The latest of each name, by name."""
    found = {each.name: each for each in sorted(scores, key=lambda each: (each.timestamp, each.seq))}
    return [found[name] for name in sorted(found)]


def _end_so_far(part: RunPart) -> AgentEnd:
    """Totals of a run without an end: of what is over, so lower bounds. Its outcome only says that it has none."""
    return AgentEnd(
        outcome="abandoned",
        success=False,
        duration_seconds=part.last_offset,
        usage=total_usage([facts.usage for facts in part.requests]),
        cost_usd=sum_usd([facts.cost_usd for facts in part.requests]),
        unpriced_requests=sum([facts.unpriced for facts in part.requests]),
        partial_requests=sum([facts.partial for facts in part.requests]),
        unmeasured_requests=sum([facts.unmeasured for facts in part.requests]),
    )


def _models(part: RunPart) -> list[str]:
    """Requested models, in order; where the request names none, those that the answers name."""
    asked = list(dict.fromkeys([facts.model for facts in part.begun]))
    if UNKNOWN_MODEL in asked:
        return list(dict.fromkeys([facts.model for facts in part.requests if facts.model])) or asked
    return asked


def _first_known(told: int | None, counted: int) -> int:
    return counted if told is None else told


def _after(start: datetime | None, seconds: float) -> datetime | None:
    try:
        return None if start is None else start + timedelta(seconds=seconds)
    except OverflowError:
        return None


def sum_usd(costs: Iterable[float | None]) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = [cost for cost in costs if cost is not None]
    return round(math.fsum(known), 12) if known else None


def total_usage(usages: Iterable[Usage | None]) -> Usage | None:
    """The sum, the provider's own counters apart; a count that nobody gave is absent."""
    known = [usage for usage in usages if usage is not None]
    if len(known) < 2:
        return known[0] if known else None
    tokens: dict[str, int] = {}
    for name in TOKENS:
        counts = [count for usage in known if (count := getattr(usage, name)) is not None]
        if counts:
            tokens[name] = sum(counts)
    return Usage(**tokens) if tokens else None  # type: ignore[arg-type]
