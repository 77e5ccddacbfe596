"""Summary of one run: identity, times, outcome, usage, cost, and completeness of its log."""

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
"""Outcome of a run for readers: without an `agent_end`, `lost` if the writer is gone, else `running`."""


TOKENS = [name for name in Usage.__struct_fields__ if name.endswith("_tokens")]
"""Fields of `Usage` that are token counts."""


class RunSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Summary of one run in seconds, tokens and US dollars. Unknown values are None."""

    run_id: str
    agent_name: str | None = None
    outcome: SeenOutcome
    success: bool | None = None
    """None while the run is in progress."""
    started: datetime | None = None
    """Start (UTC). If the start is not in the log, the time of the first event."""
    ended: datetime | None = None
    """End (UTC). None while the run is in progress; for a lost run, the time of its last event."""
    duration_seconds: float | None = None
    """Duration; for a lost run or a run in progress, up to the last event."""
    model: str | None = None
    """Model of the agent, or else of the first request."""
    models: list[str] = []
    """Models of the requests, each once, in order."""
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
    """Number of the attempt, 1 for the first, if the application marks attempts (`sidecar.attempts()`)."""
    attempt_of: str | None = None
    """Id of the first attempt."""
    scores: list[ScoreFacts] = []
    """Latest score of each name, sorted by name. Earlier scores are in the events."""
    host: str | None = None
    pid: int | None = None
    exception_type: str | None = None
    """Exception that ended the run, or else of the last error."""
    error_where: str | None = None
    """Component of the last error: `model`, `tool`, `output` or `run`."""
    errors: int = 0
    requests: int = 0
    tool_calls: int = 0
    tools: list[str] = []
    """Names of the tools called, each once, in order of the first call."""
    failed_tool_calls: int = 0
    """Number of tool calls with outcome `failed`, `invalid` or `unknown`."""
    retries: int = 0
    sub_agents: int = 0
    usage: Usage | None = None
    """Usage of the run's own requests. Without an end, of finished requests only, so a lower bound."""
    total_tokens: int | None = None
    cost_usd: float | None = None
    """Cost of the run's own requests. For totals over runs, sum this field, never `cost_usd_with_children`."""
    usage_with_children: Usage | None = None
    cost_usd_with_children: float | None = None
    """Cost including all sub-agents; None if there were none."""
    unpriced_requests: int = 0
    """Number of own requests that used tokens without a known price."""
    partial_requests: int = 0
    """Number of own requests that were cut off before their whole usage was known."""
    unmeasured_requests: int = 0
    """Number of own requests that were answered but reported no usage."""
    incomplete_sub_agents: int = 0
    """Number of sub-agents that were still running at the end, or whose own totals are lower bounds."""
    time_to_first_token_seconds: float | None = None
    """Time to the first token of the first request."""
    stalls: int = 0
    events: int = 0
    """Number of events in the log, without duplicates."""
    chunks: int = 0
    """Number of `llm_chunk` lines. If 0, missing events may be chunks that were not logged (`chunks=none`)."""
    missing: int = 0
    """Number of missing sequence numbers below the highest."""
    duplicates: int = 0
    """Number of duplicate lines."""
    files: list[str] = []

    def _repr_html_(self) -> str:
        """HTML for notebooks."""
        from sidestream.log.html import runs_html

        return runs_html([self])

    @property
    def whole_cost_usd(self) -> float | None:
        """Cost including sub-agents, if there were any."""
        return self.cost_usd if self.cost_usd_with_children is None else self.cost_usd_with_children

    @property
    def whole_tokens(self) -> int | None:
        """Tokens including sub-agents, if there were any."""
        return self.total_tokens if self.usage_with_children is None else self.usage_with_children.total_tokens

    @property
    def score_values(self) -> dict[str, bool | float | str]:
        """Value of each score by name, or else its label."""
        values = {each.name: each.label if each.value is None else each.value for each in self.scores}
        return {name: value for name, value in values.items() if value is not None}

    def is_lower_bound(self, figure: Figure, *, with_children: bool = False) -> bool:
        """Whether the true `usage` or `cost` may be higher. Always true without an end."""
        return self.outcome in ("running", "lost") or counts_are_bounds(
            figure,
            partial=self.partial_requests,
            unmeasured=self.unmeasured_requests,
            unpriced=self.unpriced_requests,
            incomplete_sub_agents=self.incomplete_sub_agents if with_children else 0,
        )


class Liveness(Protocol):
    """Check whether the writer of a run without an end is alive."""

    def alive(self, start: AgentStart | None, files: list[str]) -> bool:
        """Whether the process that wrote `start` into `files` can still write more of the run."""


def summary_of(part: RunPart, files: Iterable[str], writers: Liveness) -> RunSummary:
    """Summary of one run, from its merged part."""
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
    """Latest score of each name, sorted by name."""
    found = {each.name: each for each in sorted(scores, key=lambda each: (each.timestamp, each.seq))}
    return [found[name] for name in sorted(found)]


def _end_so_far(part: RunPart) -> AgentEnd:
    """Totals of the finished requests of a run without an end, so lower bounds. The outcome is a placeholder."""
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
    """Models of the requests in order; if a request has no announced model, the models of the answers."""
    asked = list(dict.fromkeys([facts.model for facts in part.begun]))
    if UNKNOWN_MODEL in asked:
        return list(dict.fromkeys([facts.model for facts in part.requests if facts.model])) or asked
    return asked


def _first_known(reported: int | None, counted: int) -> int:
    return counted if reported is None else reported


def _after(start: datetime | None, seconds: float) -> datetime | None:
    try:
        return None if start is None else start + timedelta(seconds=seconds)
    except OverflowError:
        return None


def sum_usd(costs: Iterable[float | None]) -> float | None:
    """Sum of the known costs; None if all are unknown."""
    known = [cost for cost in costs if cost is not None]
    return rounded_usd(math.fsum(known)) if known else None


def rounded_usd(cost: float) -> float:
    """Sum of costs without the digits that adding floating-point numbers makes up."""
    return round(cost, 12)


def total_usage(usages: Iterable[Usage | None]) -> Usage | None:
    """Sum of the known token counts, without provider-specific details; a count that no usage has stays None."""
    known = [usage for usage in usages if usage is not None]
    if len(known) < 2:
        return known[0] if known else None
    tokens: dict[str, int] = {}
    for name in TOKENS:
        counts = [count for usage in known if (count := getattr(usage, name)) is not None]
        if counts:
            tokens[name] = sum(counts)
    return Usage(**tokens) if tokens else None  # type: ignore[arg-type]
