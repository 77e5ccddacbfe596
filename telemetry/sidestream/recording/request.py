"""One model request within a run: the parts being streamed, the times that matter, and how it ended.

The lists of a `Part` and the counters of a `Request` are what the caller's path touches for each delta: it appends and
adds, and everything else happens per part, per 256 deltas, or per 100 ms.
"""

from __future__ import annotations

import time
from operator import sub
from typing import TYPE_CHECKING, Any

from sidestream.events import Attempt, ChunkKind, Json, LLMChunk, LLMEnd, LLMStart, RequestOutcome, Usage, UsageSource

from .pricing import Cost

if TYPE_CHECKING:
    from .failure import Failure
    from .run import Run

monotonic_ns = time.monotonic_ns

WAITED_NS = 10_000_000
"""A pull that took longer waited for the provider, so that what it brought has just arrived; a shorter one may only
have been preempted."""
MAX_DELTAS = 256
"""Deltas after which the gathered ones are sent, if the time has not come before."""


class Part:
    """A part of the answer, while it is being streamed."""

    __slots__ = (
        "accounted",
        "awaiting",
        "due",
        "index",
        "kind",
        "part_kind",
        "pulls",
        "texts",
        "times",
        "tool_call_id",
        "tool_name",
    )

    def __init__(
        self,
        index: int,
        kind: ChunkKind,
        *,
        due: float,
        part_kind: str | None = None,
        tool_name: str | None = None,
        tool_call_id: str | None = None,
    ) -> None:
        self.index = index
        self.kind: ChunkKind = kind
        self.part_kind = part_kind
        self.tool_name = tool_name
        self.tool_call_id = tool_call_id
        # The deltas not yet sent: text, when it was asked for, when it came. The path appends in this order, so where
        # `times` has an entry the others have it too, and another thread may take as many as `times` holds.
        self.texts: list[str] = []
        self.pulls: list[int] = []
        self.times: list[int] = []
        self.accounted = 0
        """How many of them are in the request's books already."""
        self.awaiting = True
        """Whether the first non-empty piece is still to come."""
        self.due = due
        """Monotonic ns after which the gathered deltas are sent."""

    def add(self, text: str, t_pull: int, t: int) -> None:
        """Gather a delta whose times the request has noted already."""
        self.accounted += 1
        self.texts.append(text)
        self.pulls.append(t_pull)
        self.times.append(t)


class Request:
    """One model request. Times are monotonic nanoseconds."""

    __slots__ = (
        "chunks",
        "closed",
        "done",
        "failure",
        "first",
        "first_by_kind",
        "gap_max",
        "hold",
        "hold_at_wait",
        "last",
        "model",
        "number",
        "parts",
        "run",
        "seq",
        "stalls",
        "streaming",
        "t0",
        "t_opened",
        "wait",
    )

    def __init__(
        self, run: Run, number: int, *, model: str, streaming: bool, t0: int | None = None, **facts: Any
    ) -> None:
        self.run = run
        self.number = number
        self.model = model
        self.streaming = streaming
        self.t0 = t0 or monotonic_ns()
        self.t_opened: int | None = None
        """When the stream was last known to be open with nobody pulling from it."""
        self.parts: dict[int, Part] = {}
        self.closed: dict[int, Part] = {}
        self.chunks = 0
        self.wait = 0
        self.hold = 0
        self.hold_at_wait = 0
        """`hold` when a pull last had to wait for the provider."""
        self.last = self.t0
        """When the last event that is in the books came."""
        self.gap_max = 0
        self.stalls = 0
        self.first: int | None = None
        self.first_by_kind: dict[ChunkKind, int] = {}
        self.failure: Failure | None = None
        """The error that came through the stream; the hook around the request only sees a cancellation then."""
        self.done = False
        self.seq = run.seq
        """The number of its `llm_start`."""
        run.requests_open.append(self)
        run.emit(LLMStart(request=number, model=model, streaming=streaming, **facts), at=self.t0)

    # --- streaming ---

    def begin_stream(self) -> None:
        """Somebody begins to pull: what has passed since the stream was open is the consumer's time."""
        self.last = self.t_opened or monotonic_ns()

    def open_part(self, index: int, kind: ChunkKind, now: int, **facts: str | None) -> Part:
        """A part begins at `now`."""
        if self.first is None:
            self.first = self._arrival(now)
        part = self.parts[index] = Part(index, kind, due=self._due(now), **facts)
        return part

    def reopen_part(self, index: int, kind: ChunkKind, now: int) -> Part:
        """A part goes on that is not open: one that the provider comes back to, or whose start was not seen."""
        before = self.closed.get(index)
        if before is None:
            return self.open_part(index, kind, now)
        facts = {name: getattr(before, name) for name in ("part_kind", "tool_name", "tool_call_id")}
        return self.open_part(index, before.kind, now, **facts)

    def _due(self, now: int) -> float:
        return now + self.run.chunk_ns if self.run.chunk_ns is not None else float("inf")

    def gathered(self, part: Part, now: int) -> float:
        """Send the deltas of `part` if it is time; returns when to ask again (monotonic ns)."""
        if part.awaiting:
            if not any(part.texts):
                return 0.0
            self._account(part)
            self.first_token(part, now)
        if now >= part.due or (len(part.times) >= MAX_DELTAS and part.due != float("inf")):
            self.flush(part, now)
        return part.due

    def first_token(self, part: Part, now: int) -> None:
        """The first non-empty piece of `part` came at `now`."""
        part.awaiting = False
        if part.kind not in self.first_by_kind:
            self.first_by_kind[part.kind] = self._arrival(now)

    def _arrival(self, now: int) -> int:
        """Nanoseconds from sending the request to the arrival of what was pulled at `now`.

        Where the pull had to wait, that is exact. Where it did not, the piece had been there for at most as long as
        the consumer was busy with something else, and that time is the consumer's.
        """
        return now - self.t0 - (self.hold - self.hold_at_wait)

    def noted(self, part: Part, t_pull: int, t: int, *, chunk: bool) -> None:
        """Take an event that is no further delta of `part` into the books, after those deltas."""
        with self.run.lock:
            self._account(part)
            self._book([t_pull], [t])
            self.chunks += chunk

    def _account(self, part: Part) -> None:
        with self.run.lock:
            start, end = part.accounted, len(part.times)
            if end > start:
                part.accounted = end
                self._book(part.pulls[start:end], part.times[start:end])
                self.chunks += end - start

    def _book(self, pulls: list[int], times: list[int]) -> None:
        waits = list(map(sub, times, pulls))
        waited = sum(waits)
        longest = max(waits)
        if longest > WAITED_NS:
            at = next(i for i in range(len(waits) - 1, -1, -1) if waits[i] > WAITED_NS)
            self.hold_at_wait = self.hold + pulls[at] - self.last - sum(waits[:at])
        if self.chunks:
            self.gap_max = max(self.gap_max, longest)
            if longest > self.run.stall_ns:
                self.stalls += sum(wait > self.run.stall_ns for wait in waits)
        self.wait += waited
        self.hold += times[-1] - self.last - waited
        self.last = times[-1]

    def flush(self, part: Part, now: int) -> None:
        """Send the gathered deltas of `part` as one event."""
        run = self.run
        with run.lock:
            self._account(part)
            count = part.accounted
            part.due = self._due(now)
            if not count or self.done:
                return
            texts, times = part.texts[:count], part.times[:count]
            del part.texts[:count], part.pulls[:count], part.times[:count]
            part.accounted = 0
            start = times[0]
            run.emit(
                LLMChunk(
                    request=self.number,
                    part=part.index,
                    kind=part.kind,
                    part_kind=part.part_kind,
                    tool_name=part.tool_name,
                    tool_call_id=part.tool_call_id,
                    text="".join(texts),
                    lengths=[len(text) for text in texts],
                    offsets_us=[(t - start) // 1_000 for t in times],
                ),
                at=start,
            )

    def close_part(self, index: int, now: int) -> None:
        """The part is complete."""
        part = self.parts.pop(index, None)
        if part is not None:
            self.closed[index] = part
            self.flush(part, now)

    def close_parts(self) -> None:
        """The stream is over, however it ended."""
        for index in list(self.parts):
            self.close_part(index, monotonic_ns())

    def flush_stale(self, before: int) -> None:
        """Send deltas that came before `before`, unless whole parts are wanted."""
        if self.run.chunk_ns is not None:
            for part in list(self.parts.values()):
                if part.times and part.times[0] < before:
                    self.flush(part, monotonic_ns())

    def whole(self, index: int, kind: ChunkKind, text: Json, now: int, **facts: Any) -> None:
        """A part came in one piece, as all parts of an answer that is not streamed do."""
        if self.streaming and self.first is None:
            self.first = self._arrival(now)
        if not self.done:
            self.run.emit(LLMChunk(request=self.number, part=index, kind=kind, text=text, **facts), at=now)

    # --- the end ---

    def end(
        self,
        outcome: RequestOutcome,
        *,
        at: int | None = None,
        usage: Usage | None = None,
        usage_source: UsageSource = "none",
        cost: Cost | None = None,
        unpriced: bool = False,
        attempts: list[Attempt] | None = None,
        failure: Failure | None = None,
        **facts: Any,
    ) -> None:
        """The request is over, as of the monotonic time `at` (ns); `facts` are further fields of `LLMEnd`.

        A second call does nothing.
        """
        run = self.run
        with run.lock:
            if self.done:
                return
            now = at or monotonic_ns()
            self.close_parts()
            self.done = True
            failure = failure or self.failure
            if self.chunks:
                facts |= {
                    "chunks": self.chunks,
                    "time_to_first_chunk_seconds": None if self.first is None else _seconds(self.first),
                    "time_to_first_token_seconds": {k: _seconds(t) for k, t in self.first_by_kind.items()} or None,
                    "provider_wait_seconds": _seconds(self.wait),
                    "consumer_hold_seconds": _seconds(self.hold),
                    "gap_max_seconds": _seconds(self.gap_max) if self.gap_max else None,
                    "stalls": self.stalls,
                }
            end = LLMEnd(
                request=self.number,
                outcome=outcome,
                duration_seconds=_seconds(now - self.t0),
                model=self.model,
                streaming=self.streaming,
                usage=usage,
                usage_source=usage_source,
                cost_usd=None if cost is None else float(cost.usd),
                cost_source=None if cost is None else cost.source,
                price_version=None if cost is None else cost.version,
                unpriced=True if unpriced else None,
                failed_attempts=attempts or None,
                exception_type=failure.type if failure else None,
                error=failure.message if failure else None,
                **facts,
            )
            run.emit(end)
            run.request_ended(self, end, cost)


def _seconds(ns: int) -> float:
    return max(0, ns) // 1_000 / 1_000_000
