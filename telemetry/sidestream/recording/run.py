"""State of one run: sequence numbers, open requests and tools, totals, and outcome.

A `Run` consumes raw records in order and emits events, without clock, lock or I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from sidestream.events import (
    AgentEnd,
    Error,
    LLMChunk,
    LLMEnd,
    Payload,
    Progress,
    Retry,
    StreamEvent,
    ToolEnd,
    ToolStart,
    is_partial,
    is_unmeasured,
    make_event,
    unpriced_requests,
)
from sidestream.events.ids import span_id_of

from .records import (
    AnyRecord,
    ChildEnded,
    ChildStarted,
    Happened,
    RequestEnded,
    RequestRecord,
    RequestStarted,
    RunEnded,
    RunStarted,
    ToolEnded,
    ToolStarted,
)
from .request import Request
from .sent import Histories, KnownContent, SentMessages
from .snapshot import unpack
from .totals import Totals

_WITH_TOOL = frozenset({LLMChunk, ToolStart, ToolEnd, Retry, Error})


class Run:
    """One run, from its `RunStarted`. Emits events to `sink` in the order of `seq`.

    Args:
        wanted: Predicate for payloads; rejected payloads produce no event and take no sequence number.
        stall_ns: Minimum wait between two chunks, in nanoseconds, that counts as a stall.
        chunk_ns: Nanoseconds for which deltas are collected into one `llm_chunk`; None: until the end of the part.
        histories: Messages that are already recorded.
    """

    __slots__ = (
        "_children",
        "_children_totals",
        "_chunk_ns",
        "_incomplete_children",
        "_known_content",
        "_partial",
        "_requests",
        "_retries",
        "_sent",
        "_seq",
        "_sink",
        "_stall_ns",
        "_start",
        "_t0",
        "_tool_calls",
        "_tool_names",
        "_tools",
        "_totals",
        "_unended_children",
        "_unmeasured",
        "_wall",
        "_wanted",
        "complete",
        "ended",
        "everything",
        "open",
        "parent",
        "unpriced",
    )

    def __init__(
        self,
        start: RunStarted,
        sink: Callable[[StreamEvent], None],
        *,
        wanted: Callable[[Payload], bool] | None = None,
        stall_ns: int = 2_000_000_000,
        chunk_ns: int | None = 100_000_000,
        histories: Histories | None = None,
    ) -> None:
        self._sink = sink
        self._wanted = wanted
        self._stall_ns = stall_ns
        self._chunk_ns = chunk_ns
        self._start = start
        self._t0 = start.at
        self._wall = start.wall - start.at
        """Offset of the wall clock from the monotonic clock, in nanoseconds."""
        self._seq = 0
        self.parent = start.parent
        self.open: dict[int, Request] = {}
        """Requests in progress, by number."""
        self.ended = False
        self.everything = Totals()
        """Totals of the run including its sub-agents; complete once the run has ended."""
        self.complete = False
        """Whether `everything` is exact, and not a lower bound."""
        self.unpriced = 0
        """Number of model calls, failed attempts included, with token usage but no known price."""
        self._sent = SentMessages(start.run_id, histories or Histories())
        self._known_content = KnownContent(start.data.prompt)
        self._tools: dict[int, tuple[ToolStart, int]] = {}
        self._tool_names: set[str] | None = None
        """Names of the tools offered to the model; None if unknown. Any other tool name was invented by the model."""
        self._requests = self._tool_calls = self._retries = self._partial = self._unmeasured = 0
        self._children = self._unended_children = self._incomplete_children = 0
        self._totals = Totals()
        self._children_totals = Totals()
        self._emit(start.data, start.at)

    def _emit(self, data: Payload, at: int) -> None:
        """Emit `data` as the next event of the run, at the monotonic time `at`."""
        if self._wanted is not None and not self._wanted(data):
            return
        if self._tool_names is not None and type(data) in _WITH_TOOL:
            data = self._mark_invented(data)
        seq = self._seq
        self._seq = seq + 1
        self._sink(
            make_event(
                data,
                timestamp=datetime.fromtimestamp((self._wall + at) // 1_000 / 1_000_000, UTC),
                offset=_seconds(at - self._t0),
                run_id=self._start.run_id,
                seq=seq,
                agent_name=self._start.agent_name,
            )
        )

    def _mark_invented(self, data: Any) -> Payload:
        """Mark `data` as `invented` if its tool was not offered to the model."""
        name: str | None = data.tool_name
        known = self._tool_names
        if known is not None and getattr(data, "executed_by", None) is not None:
            known.add(name or "")  # tools of the provider are not in the request's list
        own = name is None or known is None or name in known or getattr(data, "part_kind", None) is not None
        marked: Payload = data if own else msgspec.structs.replace(data, invented=True)
        return marked

    def apply(self, record: AnyRecord) -> None:
        """Process the next record of this run."""
        if isinstance(record, RequestRecord):
            self._in_request(record)
            return
        match record:
            case RequestStarted():
                self._request_started(record)
            case ToolStarted():
                self._tool_calls += 1
                data = record.data
                data = msgspec.structs.replace(data, span_id=self._span(record.span), args=unpack(data.args))
                self._tools[record.span] = (data, record.at)
                self._emit(data, record.at)
            case ToolEnded():
                self._tool_ended(record)
            case Happened():
                self._retries += type(record.data) is Retry
                self._emit(record.data, record.at)
            case ChildStarted():
                self._children += 1
                self._unended_children += 1
            case ChildEnded():
                self._unended_children -= 1
                self._incomplete_children += not record.complete
                self._children_totals.add(record.totals.usage(), record.totals.usd)
            case RunEnded():
                self._end(record)

    def flush_stale(self, now: int) -> None:
        """Emit the collected deltas of stalled streams."""
        for request in list(self.open.values()):
            request.flush_stale(now)

    def _span(self, number: int) -> str:
        return span_id_of(self._start.run_id, number)

    # --- requests ---

    def _request_started(self, record: RequestStarted) -> None:
        self._wall = record.wall - record.at  # follows clock adjustments and suspends of the machine
        self._requests += 1
        if record.tools is not None:
            self._tool_names = (self._tool_names or set()).union(record.tools)
        data = msgspec.structs.replace(record.data, span_id=self._span(record.span))
        if record.sent is not None:
            data = self._sent.describe(data, record.sent, self._known_content)
        self._known_content.results.clear()
        request = Request(data, record.at, self._emit, stall_ns=self._stall_ns, chunk_ns=self._chunk_ns)
        self.open[request.number] = request
        self._emit(data, record.at)

    def _in_request(self, record: RequestRecord) -> None:
        request = self.open.get(record.request)
        if request is None:
            return  # late teardown after the end of the request
        end = request.apply(record)
        if end is not None:
            if isinstance(record, RequestEnded) and record.answer is not None:
                end = msgspec.structs.replace(end, part_details=self._sent.answered(record.answer))
            self._request_ended(end, request.cost_usd, record.at)

    def _request_ended(self, end: LLMEnd, usd: Decimal | None, at: int) -> None:
        """Add a finished request to the totals of the run, and emit `progress`."""
        del self.open[end.request]
        self._emit(end, at)
        self._totals.add(end.usage, usd)
        for each in end.failed_attempts or ():
            self._totals.add(each.usage, None if each.cost_usd is None else Decimal(str(each.cost_usd)))
        self.unpriced += unpriced_requests(end)
        self._partial += is_partial(end)
        self._unmeasured += is_unmeasured(end)
        self._emit(
            Progress(
                iteration=end.request,
                total_tokens=self._totals.total_tokens(),
                total_cost_usd=self._totals.cost_usd(),
            ),
            at,
        )

    # --- tools ---

    def _tool_ended(self, record: ToolEnded) -> None:
        start, t0 = self._tools.pop(record.span, (None, 0))
        if start is None:
            return  # already ended
        failure = record.failure
        result = unpack(record.result)
        if result is not None and start.tool_call_id is not None:
            self._known_content.results[start.tool_call_id] = result
        self._emit(
            ToolEnd(
                tool_name=start.tool_name,
                tool_call_id=start.tool_call_id,
                span_id=start.span_id,
                outcome=record.outcome,
                duration_seconds=_seconds(record.at - t0) if record.executed else None,
                result=result,
                exception_type=failure.type if failure else None,
                error=failure.message if failure else None,
            ),
            record.at,
        )

    # --- the end ---

    def _end(self, record: RunEnded) -> None:
        """End everything still open, then emit `agent_end`."""
        at, outcome = record.at, record.outcome
        for request in list(self.open.values()):
            end = request.end("interrupted" if outcome == "abandoned" else "cancelled", at)
            self._request_ended(end, None, at)
        for span in list(self._tools):
            self._tool_ended(ToolEnded(run=record.run, at=at, span=span, outcome="cancelled"))
        own = self._totals
        for totals in (own, self._children_totals):
            self.everything.add(totals.usage(), totals.usd)
        incomplete = self._incomplete_children + self._unended_children
        self.complete = not (self.unpriced or self._partial or self._unmeasured or incomplete)
        self._emit(
            AgentEnd(
                outcome=outcome,
                success=outcome == "completed",
                duration_seconds=_seconds(at - self._t0),
                total_iterations=self._requests,
                total_tokens=own.total_tokens(),
                tool_calls=self._tool_calls,
                retries=self._retries,
                usage=own.usage(),
                cost_usd=own.cost_usd(),
                usage_with_children=self.everything.usage() if self._children else None,
                cost_usd_with_children=self.everything.cost_usd() if self._children else None,
                unpriced_requests=self.unpriced or None,
                partial_requests=self._partial or None,
                unmeasured_requests=self._unmeasured or None,
                sub_agents=self._children or None,
                incomplete_sub_agents=incomplete or None,
                exception_type=record.failure.type if record.failure else None,
            ),
            at,
        )
        self.ended = True


def _seconds(ns: int) -> float:
    return ns // 1_000 / 1_000_000
