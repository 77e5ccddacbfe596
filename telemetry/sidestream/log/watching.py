"""Live state of runs in progress, from a log that is followed: phase, tokens per second, cost so far, silence."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec

from sidestream.events import (
    AgentEnd,
    AgentStart,
    AnyEvent,
    LLMChunk,
    LLMEnd,
    LLMStart,
    Score,
    ToolEnd,
    ToolStart,
    is_lower_bound,
)

from .files import Paths
from .forwarding.follow import Follower
from .index.local import LocalLog
from .index.parts import as_utc
from .runs.filters import Filter
from .runs.summary import RunSummary, sum_usd
from .writers import Writers

Phase: TypeAlias = Literal["waiting", "generating", "tool", "between"]
"""Phase of a run: `waiting` for the first token, `generating` an answer, executing a `tool`, or `between` phases."""

CHARACTERS_A_TOKEN = 4
"""Characters per token, a rough average: the provider reports the token count only at the end of an answer."""


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """Live state of a run in progress. Unknown values are None."""

    run_id: str
    agent_name: str | None
    started: datetime | None
    seconds: float
    """Seconds since the start of the run."""
    phase: Phase
    name: str | None
    """Model or tool of the phase; None in `between`."""
    phase_seconds: float
    silent_seconds: float
    """Seconds since the last event."""
    request: int
    """Number of model requests so far, including the one in progress."""
    tool_calls: int
    tokens: int | None
    """Tokens of finished requests; None if no provider reported usage."""
    tokens_per_second: float | None
    """Rate of the answer in progress, estimated from its text; otherwise of the last answer, from its usage."""
    is_estimate: bool
    cost_usd: float | None
    cost_is_lower_bound: bool
    parent_run_id: str | None


class Watch:
    """Runs in progress in log files. Call `look` to read new events and get the current state.

    Args:
        paths: folders, files or globs.
        where: filter of the runs; None for all.
    """

    def __init__(self, paths: Paths, where: Filter | None = None) -> None:
        # before the index is read, so that no event is missed between the two
        self._follower = Follower(paths, from_end=True)
        self._where = where
        self._runs: dict[str, _Run] = {}
        log = LocalLog(paths)
        going = {run.run_id for run, _ in log.summaries(Filter(outcomes=("running",)))}
        for located in sorted(log.located(going), key=lambda each: each.event.seq) if going else ():
            self._take(located.event, located.file)

    def look(self, now: datetime) -> list[Watched]:
        """State of the runs in progress at the time `now`, the oldest run first."""
        for batch in self._follower.poll():
            for event in batch.events:
                self._take(event, batch.file)
        writers = Writers()
        for run_id, run in list(self._runs.items()):
            if not writers.alive(run.start, run.files):
                del self._runs[run_id]
        found = [run.watched(now) for run in self._runs.values() if self._where is None or run.is_taken(self._where)]
        return sorted(found, key=lambda run: (-run.seconds, run.run_id))

    def _take(self, event: AnyEvent, file: str) -> None:
        if isinstance(event.data, Score):
            return
        if isinstance(event.data, AgentEnd):
            self._runs.pop(event.run_id, None)
            return
        run = self._runs.get(event.run_id)
        if run is None:
            # Events of a run that has already ended, such as a late chunk, must not open the run again.
            if event.seq and not isinstance(event.data, AgentStart):
                return
            run = self._runs[event.run_id] = _Run(event)
        run.take(event, file)


class _Run:
    """State of a run in progress."""

    def __init__(self, event: AnyEvent) -> None:
        self.run_id = event.run_id
        self.agent_name = event.agent_name
        self.start: AgentStart | None = None
        self.files: list[str] = []
        self._began = self._last = self._since = as_utc(event.timestamp)
        self._seq = -1
        self._phase: Phase = "between"
        self._name: str | None = None
        self._tools: dict[tuple[str | None, str], datetime] = {}
        self._requests = self._tool_calls = 0
        self._models: list[str] = []
        self._called: list[str] = []
        self._tokens: int | None = None
        self._costs: list[float | None] = []
        self._bound = False
        self._characters: int | None = 0
        self._rate: float | None = None

    def take(self, event: AnyEvent, file: str) -> None:
        """Apply the next event; no-op for an event that was applied before."""
        data: Any = event.data
        if event.seq < self._seq or (event.seq == self._seq and not isinstance(data, LLMChunk)):
            return
        self._seq = event.seq
        if file not in self.files:
            self.files.append(file)
        when = as_utc(event.timestamp)
        self._last = max(self._last, when)
        match data:
            case AgentStart():
                self.start = data
            case LLMStart():
                self._requests, self._characters = data.request, 0
                self._models.append(data.model)
                self._enter("waiting", data.model, when)
            case LLMChunk():
                if self._phase != "generating":
                    self._enter("generating", self._name, when)
                lengths = data.lengths
                self._characters = (
                    None if self._characters is None or lengths is None else self._characters + sum(lengths)
                )
            case LLMEnd():
                self._ended(data, when)
            case ToolStart():
                self._tool_calls += 1
                self._called.append(data.tool_name)
                self._tools[data.tool_call_id, data.tool_name] = when
                self._enter("tool", data.tool_name, when)
            case ToolEnd():
                self._tools.pop((data.tool_call_id, data.tool_name), None)
                self._between(when)

    def _ended(self, data: LLMEnd, when: datetime) -> None:
        usage = data.usage
        if usage is not None:
            self._tokens = (self._tokens or 0) + usage.total_tokens
            spoke = data.duration_seconds - min((data.time_to_first_token_seconds or {}).values(), default=0.0)
            self._rate = usage.output_tokens / spoke if usage.output_tokens and spoke > 0 else None
        self._costs.append(data.cost_usd)
        self._bound = self._bound or bool(data.unpriced) or is_lower_bound(data, "cost")
        self._between(when)

    def _between(self, when: datetime) -> None:
        """Enter the phase of a tool that is still running, or else `between`."""
        if self._tools:
            (_, name), began = next(reversed(self._tools.items()))
            self._enter("tool", name, began)
        else:
            self._enter("between", None, when)

    def _enter(self, phase: Phase, name: str | None, when: datetime) -> None:
        self._phase, self._name, self._since = phase, name, when

    def is_taken(self, where: Filter) -> bool:
        """Whether `where` matches the run in its present state."""
        start = self.start or AgentStart(root_run_id=self.run_id)
        return where.matches(
            RunSummary(
                run_id=self.run_id,
                root_run_id=start.root_run_id,
                parent_run_id=start.parent_run_id,
                agent_name=self.agent_name,
                outcome="running",
                started=self._began,
                duration_seconds=(self._last - self._began).total_seconds(),
                model=start.model,
                models=self._models,
                tools=self._called,
                tags=start.tags or {},
                conversation_id=start.conversation_id,
                attempt=start.attempt,
                attempt_of=start.attempt_of,
                cost_usd=sum_usd(self._costs),
            )
        )

    def watched(self, now: datetime) -> Watched:
        """State of the run at the time `now`."""
        generating = self._phase == "generating"
        spoken = (now - self._since).total_seconds()
        estimate = None
        if generating and self._characters and spoken > 0:
            estimate = self._characters / CHARACTERS_A_TOKEN / spoken
        return Watched(
            run_id=self.run_id,
            agent_name=self.agent_name,
            started=self._began,
            seconds=_since(self._began, now),
            phase=self._phase,
            name=self._name,
            phase_seconds=_since(self._since, now),
            silent_seconds=_since(self._last, now),
            request=self._requests,
            tool_calls=self._tool_calls,
            tokens=self._tokens,
            tokens_per_second=estimate if generating else self._rate,
            is_estimate=generating and estimate is not None,
            cost_usd=sum_usd(self._costs),
            cost_is_lower_bound=self._bound,
            parent_run_id=self.start.parent_run_id if self.start is not None else None,
        )


def _since(moment: datetime, now: datetime) -> float:
    """Seconds from `moment` to `now`; 0 if the clock was set back."""
    return max(0.0, round((now - moment).total_seconds(), 3))


def total_rate(runs: Iterable[Watched]) -> float:
    """Tokens per second, summed over all answers in progress."""
    return sum(run.tokens_per_second or 0.0 for run in runs if run.phase == "generating")
