"""One run, as it happens: its clock, its sequence numbers, its open requests and tools, its totals, its outcome.

Whoever watches a run (a pydantic-ai capability, a tap on a stream) tells a `Run` what it sees, in plain values, and the
`Run` makes the events. It does no I/O and knows no framework.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from sidestream.events import (
    AgentEnd,
    AgentStart,
    Custom,
    Error,
    FinalResult,
    Json,
    LLMEnd,
    Payload,
    Progress,
    Retry,
    RunOutcome,
    StreamEvent,
    ToolEnd,
    ToolOutcome,
    ToolStart,
    is_partial,
    is_unmeasured,
    make_event,
    unpriced_requests,
)
from sidestream.events.ids import span_id_of, trace_id_of

from .context import Link
from .failure import Failure
from .pricing import Cost
from .process import hostname, process_identity
from .request import Request
from .sampling import HeadSampler
from .span_context import SpanRef
from .totals import Totals

monotonic_ns = time.monotonic_ns
Where = Literal["model", "tool", "output", "run"]


class Run:
    """One run. Every method may be called from any thread; events leave through `sink` in the order of `seq`."""

    __slots__ = (
        "_children",
        "_clock_start",
        "_errors",
        "_incomplete_children",
        "_of_children",
        "_partial",
        "_remote",
        "_retries",
        "_sampler",
        "_sink",
        "_tool_calls",
        "_tools",
        "_totals",
        "_unended_children",
        "_unmeasured",
        "_unpriced",
        "agent_name",
        "chunk_ns",
        "ended",
        "instrumented",
        "lock",
        "owner",
        "parent",
        "requests",
        "requests_open",
        "root_run_id",
        "run_id",
        "sampled",
        "seq",
        "stall_ns",
        "tags",
        "trace_id",
    )

    def __init__(
        self,
        sink: Callable[[StreamEvent], None],
        *,
        run_id: str,
        owner: object = None,
        agent_name: str | None = None,
        parent: Link | None = None,
        tags: Mapping[str, str] | None = None,
        stall_seconds: float = 2.0,
        chunk_seconds: float | None = 0.1,
        sampler: HeadSampler | None = None,
        remote: SpanRef | None = None,
    ) -> None:
        self._sink = sink
        self._sampler = sampler
        self._remote = remote
        # Reentrant, for the garbage collector may end another run, or this one, in the middle of an emission.
        self.lock = threading.RLock()
        self._clock_start = monotonic_ns()
        self.seq = 0
        """Of the next event."""
        self.owner = owner
        self.run_id = run_id
        self.agent_name = agent_name
        self.parent = parent
        self.root_run_id: str = parent.run.root_run_id if parent else run_id
        self.trace_id: str | None = None
        self.sampled: bool | None = None
        """Whether the trace is kept. None: there is no exporter of spans, so nobody asks."""
        self.instrumented = False
        self.tags = dict(tags) if tags else None
        self.stall_ns = int(stall_seconds * 1e9)
        self.chunk_ns = None if chunk_seconds is None else int(chunk_seconds * 1e9)
        self.requests = 0
        self.requests_open: list[Request] = []
        self.ended = False
        self._tools: dict[int, tuple[ToolStart, int]] = {}
        self._tool_calls = 0
        self._retries = 0
        self._unpriced = self._partial = self._unmeasured = 0
        self._unended_children = self._incomplete_children = 0
        self._children = 0
        self._errors: set[int] = set()
        self._totals = Totals()
        self._of_children = Totals()

    # --- emission ---

    def emit(self, data: Payload, at: int | None = None) -> None:
        """Send `data` as this run's next event, as of the monotonic time `at` (ns; now unless given)."""
        now = monotonic_ns()
        if at is None:
            at = now
        wall = time.time_ns() - (now - at)
        with self.lock:
            if self.ended:
                return  # a teardown that goes on after the run is over
            seq = self.seq
            self.seq = seq + 1
            self._sink(
                make_event(
                    data,
                    timestamp=datetime.fromtimestamp(wall // 1_000 / 1_000_000, UTC),
                    offset=seconds(at - self._clock_start),
                    run_id=self.run_id,
                    seq=seq,
                    agent_name=self.agent_name,
                )
            )

    # --- the run ---

    def start(
        self,
        *,
        prompt: Json = None,
        model: str | None = None,
        conversation_id: str | None = None,
        mode: Literal["graph", "realtime"] | None = "graph",
        caller: SpanRef | None = None,
        instrumented: bool = False,
    ) -> None:
        """The run begins, inside the span `caller`. `instrumented`: others make spans of what happens in it."""
        parent = self.parent
        if parent is not None:
            parent.run.child_started()
        if parent is None:
            caller = caller or self._remote
        elif caller in (None, parent.around) and not parent.run.instrumented:
            caller = parent.run.span(parent.seq)
        self.trace_id = caller.trace_id if caller else trace_id_of(self.root_run_id)
        if self._sampler is not None:
            self.sampled = self._sampler(self.trace_id, caller.sampled if caller else None)
        self.instrumented = instrumented
        self.emit(
            AgentStart(
                parent_run_id=parent.run.run_id if parent else None,
                parent_tool_call_id=parent.tool_call_id if parent else None,
                parent_link=parent.via if parent else None,
                root_run_id=self.root_run_id,
                conversation_id=conversation_id,
                trace_id=self.trace_id,
                span_id=span_id_of(self.run_id, 0),
                parent_span_id=caller.span_id if caller else None,
                sampled=self.sampled,
                instrumented=instrumented or None,
                model=model,
                mode=mode,
                prompt=prompt,
                tags=self.tags,
                pid=os.getpid(),
                host=hostname(),
                process=str(identity) if (identity := process_identity()) else None,
            ),
            at=self._clock_start,
        )

    def span(self, seq: int) -> SpanRef | None:
        """The span that event `seq` begins."""
        return SpanRef(self.trace_id, span_id_of(self.run_id, seq), self.sampled) if self.trace_id else None

    def end(self, outcome: RunOutcome, failure: Failure | None = None) -> None:
        """The run is over: whatever is still open ends now, then comes `agent_end`. A second call does nothing."""
        with self.lock:
            if self.ended:
                return
            for request in list(self.requests_open):
                request.end("interrupted" if outcome == "abandoned" else "cancelled")
            for key in list(self._tools):
                self.tool_end(key, "cancelled")
            now = monotonic_ns()
            own, everything = self._totals, Totals()
            for totals in (own, self._of_children):
                everything.add(totals.usage(), totals.usd)
            incomplete = self._incomplete_children + self._unended_children
            self.emit(
                AgentEnd(
                    outcome=outcome,
                    success=outcome == "completed",
                    duration_seconds=seconds(now - self._clock_start),
                    total_iterations=self.requests,
                    total_tokens=own.total_tokens(),
                    tool_calls=self._tool_calls,
                    retries=self._retries,
                    usage=own.usage(),
                    cost_usd=own.cost_usd(),
                    usage_with_children=everything.usage() if self._children else None,
                    cost_usd_with_children=everything.cost_usd() if self._children else None,
                    unpriced_requests=self._unpriced or None,
                    partial_requests=self._partial or None,
                    unmeasured_requests=self._unmeasured or None,
                    sub_agents=self._children or None,
                    incomplete_sub_agents=incomplete or None,
                    exception_type=failure.type if failure else None,
                ),
                at=now,
            )
            self.ended = True
        if self.parent is not None:
            bound = self._unpriced or self._partial or self._unmeasured or incomplete
            self.parent.run.add_child(everything, complete=not bound)

    def disown(self) -> None:
        """In a forked child: this run is the parent's to tell, and a lock may have been held at the fork."""
        self.lock = threading.RLock()
        self.ended = True

    def child_started(self) -> None:
        """A sub-agent of this run begins, whether or not anybody waits for its end."""
        with self.lock:
            self._children += 1
            self._unended_children += 1

    def add_child(self, totals: Totals, *, complete: bool) -> None:
        """A sub-agent is over: what it and its own sub-agents used, and whether that is `complete` or a lower bound."""
        with self.lock:
            self._unended_children -= 1
            self._incomplete_children += not complete
            self._of_children.add(totals.usage(), totals.usd)

    # --- what a run consists of ---

    def request(self, **facts: Any) -> Request:
        """A model request is sent; `facts` are the fields of `LLMStart`."""
        with self.lock:
            self.requests += 1
            self._errors.clear()  # what failed before has been dealt with, and its id may come again
            return Request(self, self.requests, **facts)

    def request_ended(self, request: Request, end: LLMEnd, cost: Cost | None) -> None:
        """Take a request that is over into the totals of the run, and tell the progress."""
        with self.lock:
            if request in self.requests_open:
                self.requests_open.remove(request)
            self._totals.add(end.usage, cost.usd if cost else None)
            for each in end.failed_attempts or ():
                self._totals.add(each.usage, None if each.cost_usd is None else Decimal(str(each.cost_usd)))
            self._unpriced += unpriced_requests(end)
            self._partial += is_partial(end)
            self._unmeasured += is_unmeasured(end)
            self.emit(
                Progress(
                    iteration=request.number,
                    total_tokens=self._totals.total_tokens(),
                    total_cost_usd=self._totals.cost_usd(),
                )
            )

    def tool_start(
        self, tool_name: str, tool_call_id: str | None = None, args: Json = None, attempt: int | None = None
    ) -> int:
        """A tool call is taken up; returns the number of its event (`seq`), under which it ends."""
        now = monotonic_ns()
        data = ToolStart(tool_name=tool_name, tool_call_id=tool_call_id, args=args, attempt=attempt)
        with self.lock:
            self._tool_calls += 1
            key = self.seq
            self._tools[key] = (data, now)
            self.emit(data, at=now)
        return key

    def tool_end(
        self,
        key: int,
        outcome: ToolOutcome,
        *,
        result: Json = None,
        failure: Failure | None = None,
        executed: bool = True,
    ) -> None:
        """The tool call `key` is over. Does nothing for one that has ended before."""
        now = monotonic_ns()
        with self.lock:
            start, t0 = self._tools.pop(key, (None, 0))
            if start is None:
                return
            self.emit(
                ToolEnd(
                    tool_name=start.tool_name,
                    tool_call_id=start.tool_call_id,
                    outcome=outcome,
                    duration_seconds=seconds(now - t0) if executed else None,
                    result=result,
                    exception_type=failure.type if failure else None,
                    error=failure.message if failure else None,
                ),
                at=now,
            )

    def retry(self, **facts: Any) -> None:
        """The model is asked again; `facts` are the fields of `Retry`."""
        with self.lock:
            self._retries += 1
            self.emit(Retry(**facts))

    def final_result(self, output: Json, output_type: str | None) -> None:
        """The output of the run is known."""
        self.emit(FinalResult(output=output, output_type=output_type))

    def error(self, failure: Failure, where: Where, *, identity: int | None = None, **facts: Any) -> None:
        """Something failed. `identity` is the exception's `id()` while it is on its way: it is told once."""
        with self.lock:
            if identity is not None:
                if identity in self._errors:
                    return
                self._errors.add(identity)
            self.emit(Error(error=failure.message, exception_type=failure.type, where=where, **facts))

    def knows(self, error: BaseException) -> bool:
        """Whether `error` has been told already, as a failure of a part of this run."""
        return id(error) in self._errors

    def custom(self, name: str, payload: Json = None, **facts: Any) -> None:
        """An event of the application's own."""
        self.emit(Custom(name=name, payload=payload, **facts))

    def flush_stale(self, before: int) -> None:
        """Send the deltas that have waited since `before` (monotonic ns): those of a stream that stands still."""
        for request in list(self.requests_open):
            request.flush_stale(before)


def seconds(ns: int) -> float:
    """Nanoseconds as seconds, to the microsecond."""
    return ns // 1_000 / 1_000_000
