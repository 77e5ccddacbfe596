"""State of one model request within a run: parts, times and outcome.

    sent (t0)      stream open     first event            last event
      |---------------|- - - - - - - |------ … ------------|
                        hold   wait     hold   wait  …

`wait` is the time from a pull to the arrival of the event, spent by the provider. `hold` is the time from the arrival
to the next pull, spent by the consumer. Times are monotonic nanoseconds, taken from the records.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from decimal import Decimal
from operator import sub
from typing import Any

from sidestream.events import ChunkKind, LLMChunk, LLMEnd, LLMStart, Payload, RequestOutcome

from .failure import Failure
from .records import (
    Deltas,
    PartEnded,
    PartResumed,
    PartStarted,
    PartWhole,
    Pulled,
    RequestEnded,
    RequestRecord,
    StreamClosed,
    StreamOpened,
)
from .response import NOTHING_KNOWN, ResponseFacts, known

WAITED_NS = 10_000_000
"""Nanoseconds above which a pull must have waited for the provider, so that its event has just arrived. A shorter"""
MAX_DELTAS = 256
"""Maximum number of deltas in one `llm_chunk`."""


class Part:
    """Part of the answer, with the deltas not yet emitted as an `llm_chunk`."""

    __slots__ = (
        "awaiting",
        "due",
        "index",
        "kind",
        "opened",
        "part_kind",
        "texts",
        "times",
        "tool_call_id",
        "tool_name",
    )

    def __init__(self, index: int, kind: ChunkKind, part_kind: str | None, due: float, opened: int) -> None:
        self.index = index
        self.kind: ChunkKind = kind
        self.part_kind = part_kind
        self.tool_name: str | None = None
        self.tool_call_id: str | None = None
        self.texts: list[str] = []
        self.times: list[int] = []
        self.opened = opened
        self.awaiting = True
        """Whether the first non-empty piece is still to come."""
        self.due = due
        """Time from which the next delta triggers the emission of all collected ones."""

    def chunk(self, request: int) -> LLMChunk:
        """Make one event of the collected deltas."""
        start = self.times[0]
        return LLMChunk(
            request=request,
            part=self.index,
            kind=self.kind,
            part_kind=self.part_kind,
            tool_name=self.tool_name,
            tool_call_id=self.tool_call_id,
            text="".join(self.texts),
            lengths=[len(text) for text in self.texts],
            offsets_us=[(t - start) // 1_000 for t in self.times],
        )


class Request:
    """One model request: consumes records, emits events."""

    __slots__ = (
        "_chunk_ns",
        "_chunks",
        "_closed",
        "_deltas",
        "_emit",
        "_first",
        "_first_by_kind",
        "_gap_max",
        "_hold",
        "_hold_at_wait",
        "_last",
        "_part",
        "_parts",
        "_stall_ns",
        "_stalls",
        "_start",
        "_start_known",
        "_t0",
        "_wait",
        "cost_usd",
        "number",
    )

    def __init__(
        self, start: LLMStart, t0: int, emit: Callable[[Payload, int], None], *, stall_ns: int, chunk_ns: int | None
    ) -> None:
        self.number = start.request
        self.cost_usd: Decimal | None = None
        """Exact cost; None if unknown or before the end of the request."""
        self._start = start
        self._start_known = True
        self._t0 = t0
        self._emit = emit
        self._stall_ns = stall_ns
        self._chunk_ns = chunk_ns
        """Nanoseconds for which deltas are collected; None: until the end of the part."""
        self._parts: dict[int, Part] = {}
        self._closed: dict[int, Part] = {}
        self._part: Part | None = None
        """Part to which `_deltas` belongs."""
        self._deltas: Deltas | None = None
        """Deltas of the current part, appended by the caller's path."""
        self._chunks = 0
        self._wait = 0
        self._hold = 0
        self._hold_at_wait = 0
        """Value of `_hold` at the last pull that had to wait for the provider."""
        self._last = t0
        """Time of the last event included in the sums."""
        self._gap_max = 0
        self._stalls = 0
        self._first: int | None = None
        self._first_by_kind: dict[ChunkKind, int] = {}

    def apply(self, record: RequestRecord) -> LLMEnd | None:
        """Process `record` after all earlier deltas. Returns the payload of `llm_end` for the last one, else None."""
        self._take_deltas(record.at)
        match record:
            case Pulled():
                self._account([record.asked], [record.at])
                self._chunks += record.chunk
            case PartStarted():
                self._close_part(record.deltas.index, record.at)
                self._open_part(record.deltas, record.kind, record.part_kind, record.at)
                if record.named:
                    self._first_token(record.at)
                self._gather_first(record.text, record.at)
            case PartResumed():
                self._resume_part(record)
                self._gather_first(record.text, record.at)
            case PartEnded():
                self._close_part(record.index, record.at)
            case PartWhole():
                if self._start.streaming and self._first is None:
                    self._first = self._arrival(record.at)
                self._emit(record.data, record.at)
            case StreamOpened():
                self._last = record.at
            case StreamClosed():
                self._close_parts(record.at)
            case RequestEnded():
                if not record.start_known:
                    self._start_known = False
                if record.whole and record.answer is not None:
                    for chunk in record.answer.chunks(self.number):
                        self._emit(chunk, record.at)
                return self.end(record.outcome, record.at, record.over, known(record.facts), record.failure)
        return None

    # --- parts ---

    def _open_part(self, deltas: Deltas, kind: ChunkKind, part_kind: str | None, now: int) -> None:
        if self._first is None:
            self._first = self._arrival(now)
        self._deltas = deltas
        self._part = self._parts[deltas.index] = Part(deltas.index, kind, part_kind, self._due(now), now)
        self._copy_tool_name()

    def _resume_part(self, record: PartResumed) -> None:
        deltas = record.deltas
        part = self._parts.get(deltas.index)
        if part is not None:
            self._part, self._deltas = part, deltas
        else:
            before = self._closed.get(deltas.index)
            kind, part_kind = (before.kind, before.part_kind) if before else (record.kind, None)
            self._open_part(deltas, kind, part_kind, record.at)

    def _copy_tool_name(self) -> None:
        if self._part is not None and self._deltas is not None:
            self._part.tool_name, self._part.tool_call_id = self._deltas.tool_name, self._deltas.tool_call_id

    def _close_part(self, index: int, now: int) -> None:
        part = self._parts.pop(index, None)
        if part is not None:
            self._closed[index] = part
            if part.kind == "thinking" and part.awaiting:
                self._add_hidden_pieces(part, now)
            self._flush(part, now)
            if part is self._part:
                self._part = self._deltas = None

    def _add_hidden_pieces(self, part: Part, now: int) -> None:
        """Represent hidden thinking by empty pieces at its start and at its end `now`.

        Otherwise seconds of thinking would look like a slow provider.
        """
        if not part.times:
            part.texts, part.times = [""], [part.opened]
        part.texts.append("")
        part.times.append(now)

    def _close_parts(self, now: int) -> None:
        for index in list(self._parts):
            self._close_part(index, now)

    def _due(self, now: int) -> float:
        return float("inf") if self._chunk_ns is None else now + self._chunk_ns

    # --- deltas ---

    def _take_deltas(self, until: int | None = None) -> None:
        """Process deltas that the caller's path has added up to the time `until`; emits those that are due.

        The path may already have added deltas later than the current record.
        """
        deltas, part = self._deltas, self._part
        if deltas is None or part is None:
            return
        noted = deltas.noted[:]
        times: list[int] = noted[2::3]
        if until is not None:
            del times[bisect_right(times, until) :]
        count = len(times)
        if not count:
            return
        texts: list[str] = noted[: 3 * count : 3]
        pulls: list[int] = noted[1 : 3 * count : 3]
        del deltas.noted[: 3 * count]
        self._copy_tool_name()
        start = 0
        while start < count:
            end = self._end_of_slice(part, texts, times, start)
            self._account(pulls[start:end], times[start:end])
            self._chunks += end - start
            self._gather(texts[start:end], times[start:end])
            self._flush_if_due(times[end - 1])
            start = end

    def _end_of_slice(self, part: Part, texts: list[str], times: list[int], start: int) -> int:
        """End index of the next slice of deltas: after the first non-empty text, or the first delta that is due."""
        end = len(times)
        if part.awaiting:
            end = next((i + 1 for i in range(start, end) if texts[i]), end)
        if self._chunk_ns is not None:
            end = min(end, start + max(1, MAX_DELTAS - len(part.times)))
            end = min(end, bisect_left(times, part.due, start, end) + 1)
        return end

    def _gather_first(self, text: str | None, now: int) -> None:
        """Collect the text from the start of a part; its times are already accounted for."""
        if text:
            self._gather([text], [now])
        self._flush_if_due(now)

    def _gather(self, texts: list[str], times: list[int]) -> None:
        part = self._part
        if part is not None:
            part.texts += texts
            part.times += times
            if part.awaiting and any(texts):
                self._first_token(times[-1])

    def _flush_if_due(self, now: int) -> None:
        part = self._part
        if part is None or part.awaiting or self._chunk_ns is None:
            return
        if now >= part.due or len(part.times) >= MAX_DELTAS:
            self._flush(part, now)

    def _flush(self, part: Part, now: int) -> None:
        part.due = self._due(now)
        if part.times:
            self._emit(part.chunk(self.number), part.times[0])
            part.texts, part.times = [], []

    def flush_stale(self, now: int) -> None:
        """Emit deltas that have been collected for too long, because their stream has stalled."""
        self._take_deltas()
        if self._chunk_ns is not None:
            for part in list(self._parts.values()):
                if part.times and part.times[0] <= now - self._chunk_ns:
                    self._flush(part, now)

    # --- times ---

    def _first_token(self, now: int) -> None:
        part = self._part
        if part is not None:
            part.awaiting = False
            if part.kind not in self._first_by_kind:
                self._first_by_kind[part.kind] = self._arrival(now)

    def _arrival(self, now: int) -> int:
        """Nanoseconds from sending the request to the arrival of the event pulled at `now`.

        Exact if the pull had to wait. Otherwise the event arrived while the consumer was busy, so the consumer's time
        since the last wait is subtracted.
        """
        return now - self._t0 - (self._hold - self._hold_at_wait)

    def _account(self, pulls: list[int], times: list[int]) -> None:
        waits = list(map(sub, times, pulls))
        waited = sum(waits)
        longest = max(waits)
        if longest > WAITED_NS:
            at = next(i for i in range(len(waits) - 1, -1, -1) if waits[i] > WAITED_NS)
            self._hold_at_wait = self._hold + pulls[at] - self._last - sum(waits[:at])
        if self._chunks:
            self._gap_max = max(self._gap_max, longest)
            if longest > self._stall_ns:
                self._stalls += sum(wait > self._stall_ns for wait in waits)
        self._wait += waited
        self._hold += times[-1] - self._last - waited
        self._last = times[-1]

    # --- the end ---

    def end(
        self,
        outcome: RequestOutcome,
        at: int,
        over: int | None = None,
        facts: ResponseFacts = NOTHING_KNOWN,
        failure: Failure | None = None,
    ) -> LLMEnd:
        """End the request at `over` (default `at`), recorded at `at`. Emits the remaining deltas of its parts."""
        self._take_deltas(at)
        self._close_parts(at)
        cost = facts.cost
        self.cost_usd = None if cost is None else cost.usd
        return LLMEnd(
            request=self.number,
            span_id=self._start.span_id,
            outcome=outcome,
            duration_seconds=_seconds((over or at) - self._t0),
            model=self._start.model,
            streaming=self._start.streaming,
            response_model=facts.response_model,
            response_id=facts.response_id,
            provider=facts.provider,
            finish_reason=facts.finish_reason,
            raw_finish_reason=facts.raw_finish_reason,
            service_tier=facts.service_tier,
            served_by=facts.served_by,
            server_address=facts.server_address,
            server_port=facts.server_port,
            provider_details=facts.provider_details,
            usage=facts.usage,
            usage_source=facts.usage_source,
            cost_usd=None if cost is None else float(cost.usd),
            cost_source=None if cost is None else cost.source,
            price_version=None if cost is None else cost.version,
            unpriced=True if facts.unpriced else None,
            failed_attempts=facts.attempts or None,
            exception_type=failure.type if failure else None,
            error=failure.message if failure else None,
            start_unknown=None if self._start_known else True,
            **self._stream_times(),
        )

    def _stream_times(self) -> dict[str, Any]:
        if not self._chunks:
            return {}
        first = self._first if self._start_known else None
        return {
            "chunks": self._chunks,
            "time_to_first_chunk_seconds": None if first is None else _seconds(first),
            "time_to_first_token_seconds": self._first_tokens() if self._start_known else None,
            "provider_wait_seconds": _seconds(self._wait),
            "consumer_hold_seconds": _seconds(self._hold),
            "gap_max_seconds": _seconds(self._gap_max) if self._gap_max else None,
            "stalls": self._stalls,
        }

    def _first_tokens(self) -> dict[ChunkKind, float] | None:
        return {kind: _seconds(t) for kind, t in self._first_by_kind.items()} or None


def _seconds(ns: int) -> float:
    return max(0, ns) // 1_000 / 1_000_000
