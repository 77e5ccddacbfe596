"""Building of parts: the events of one file, in the order of its lines, become one part for each run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

import msgspec

from sidestream.events import (
    AgentEnd,
    AgentStart,
    Error,
    LLMEnd,
    LLMStart,
    Retry,
    ScoreEvent,
    StreamEvent,
    ToolEnd,
    ToolStart,
    is_partial,
    is_unmeasured,
    unpriced_requests,
)
from sidestream.log.sequence import Ranges

from .parts import UNKNOWN_MODEL, BegunFacts, ErrorFacts, RequestFacts, RunPart, ScoreFacts, ToolFacts, as_utc


class ChunkHead(msgspec.Struct, tag_field="event_type", tag="llm_chunk", gc=False):
    """`llm_chunk` event without its data."""

    run_id: str
    seq: int
    offset: float = 0.0


class _Open:
    """State of one run's part while its file is read."""

    __slots__ = ("block", "chunk", "chunks", "known", "limit", "next", "other", "part", "start")

    def __init__(self, part: RunPart) -> None:
        self.part = part
        self.known = Ranges(part.seqs)
        # The numbers from `start` up to `next` are consecutive and not yet in `known`; its next member is `limit`.
        self.start = self.next = part.last_chunk + 1
        self.limit = self.known.next_after(self.next)
        self.other = -1  # last number that is not of an `llm_chunk`
        self.chunk: ChunkHead | None = None  # last chunk
        self.chunks = 0
        self.block = -1

    def take(self, seq: int) -> bool:
        """Add the number `seq`; False if it occurred before."""
        if seq == self.next != self.limit:
            self.next += 1
            return True
        self.close_row()
        if seq in self.known:
            return False
        self.start, self.next = seq, seq + 1
        self.limit = self.known.next_after(seq)
        return True

    def close_row(self) -> None:
        if self.next > self.start:
            self.known.add(self.start, self.next - 1)
        self.start = self.next = self.limit = -1

    def closed(self) -> RunPart:
        part = self.part
        part.last_chunk = self.next - 1 if self.next - 1 != self.other and self.next > 0 else -1
        part.chunks += self.chunks
        self.chunks = 0
        if self.chunk is not None:
            part.last_offset = max(part.last_offset, self.chunk.offset)
        self.close_row()
        part.seqs = self.known.ranges
        return part


class Gatherer:
    """Builder of the parts of one file, fed with its events in the order of the lines.

    `known` returns the parts that were stored for some runs, if reading continues in the middle of the file.
    """

    def __init__(self, known: Callable[[Collection[str]], dict[str, RunPart]] | None = None) -> None:
        self._open: dict[str, _Open] = {}
        self._known = known

    def parts(self) -> list[RunPart]:
        """Parts of all runs in the file."""
        return [each.closed() for each in self._open.values()]

    def take(self, events: list[Any], start: int, end: int, line: int) -> None:
        """Add the events of the block at the bytes `start` to `end` of the file, whose first line is number `line`."""
        runs = self._open
        if self._known is not None and (new := {event.run_id for event in events} - runs.keys()):
            for part in self._known(new).values():
                runs[part.run_id] = _Open(part)
        here: list[RunPart] = []
        run_id: str | None = None
        for event in events:  # hot loop: runs once for every line of a log
            if event.run_id != run_id:
                run_id = event.run_id
                run = runs.get(run_id) or self._begin(run_id)
                if run.block != start:
                    run.block = start
                    here.append(run.part)
            seq = event.seq
            if event.__class__ is ChunkHead:
                run.chunks += 1
                run.chunk = event
                if seq == run.next != run.limit:
                    run.next = seq + 1
                elif seq == run.next - 1 != run.other:
                    pass  # same as `is_next_piece`, without the call
                elif not run.take(seq):
                    run.part.duplicates += 1
            elif event.__class__ is ScoreEvent:
                _note_score(run.part, event)
            elif run.take(seq):
                run.other = seq
                _note(run.part, event)
            else:
                run.part.duplicates += 1
        for part in here:
            if part.spans and part.spans[-1][1] == start:
                part.spans[-1][1] = end
            else:
                part.spans.append([start, end, line])

    def _begin(self, run_id: str) -> _Open:
        run = self._open[run_id] = _Open(RunPart(run_id=run_id))
        return run


def _note(part: RunPart, event: StreamEvent) -> None:
    data, when = event.data, event.timestamp
    if when.tzinfo is not UTC:
        when = as_utc(when)
    if part.agent_name is None:
        part.agent_name = event.agent_name
    if part.first is None or when < part.first:
        part.first = when
    if part.last is None or when > part.last:
        part.last = when
    if event.offset > part.last_offset:
        part.last_offset = event.offset
    if (note := _NOTED.get(data.__class__)) is not None:
        note(part, event, when)


def _note_start(part: RunPart, event: StreamEvent, when: datetime) -> None:
    if part.start is None:
        part.start = msgspec.structs.replace(event.data, prompt=None)
        part.started = when


def _note_end(part: RunPart, event: StreamEvent, when: datetime) -> None:
    if part.end is None:
        part.end, part.ended = event.data, when


def _note_request_begun(part: RunPart, event: StreamEvent, when: datetime) -> None:
    data = event.data
    part.begun.append(BegunFacts(event.seq, data.model, data.provider))


def _note_request(part: RunPart, event: StreamEvent, when: datetime) -> None:
    part.requests.append(_request(event, event.data, when))


def _note_tool_begun(part: RunPart, event: StreamEvent, when: datetime) -> None:
    part.tools_begun.append(event.seq)
    name = event.data.tool_name
    if name not in part.tool_names:
        part.tool_names.append(name)


def _note_tool(part: RunPart, event: StreamEvent, when: datetime) -> None:
    data = event.data
    part.tools.append(ToolFacts(event.seq, when, data.tool_name, data.outcome, data.duration_seconds))


def _note_error(part: RunPart, event: StreamEvent, when: datetime) -> None:
    data = event.data
    part.errors.append(ErrorFacts(event.seq, data.where, data.exception_type))


def _note_retry(part: RunPart, event: StreamEvent, when: datetime) -> None:
    part.retries.append(event.seq)


_NOTED: dict[type, Callable[[RunPart, StreamEvent, datetime], None]] = {
    AgentStart: _note_start,
    AgentEnd: _note_end,
    LLMStart: _note_request_begun,
    LLMEnd: _note_request,
    ToolStart: _note_tool_begun,
    ToolEnd: _note_tool,
    Error: _note_error,
    Retry: _note_retry,
}
"""Reader of the facts of each kind of data."""


def _note_score(part: RunPart, event: ScoreEvent) -> None:
    if all(facts.seq != event.seq for facts in part.scores):
        data = event.data
        part.scores.append(
            ScoreFacts(
                seq=event.seq,
                timestamp=as_utc(event.timestamp),
                name=data.name,
                value=data.value,
                label=data.label,
            )
        )


def _request(event: StreamEvent, data: LLMEnd, when: datetime) -> RequestFacts:
    cost, first_tokens = data.cost_usd, data.time_to_first_token_seconds
    if data.failed_attempts:
        costs = [each for each in (cost, *(attempt.cost_usd for attempt in data.failed_attempts)) if each is not None]
        cost = sum(costs) if costs else None
    return RequestFacts(
        seq=event.seq,
        timestamp=when,
        offset=event.offset,
        request=data.request,
        model=data.response_model or data.model if data.model == UNKNOWN_MODEL else data.model,
        response_model=data.response_model,
        provider=data.provider,
        outcome=data.outcome,
        duration_seconds=data.duration_seconds,
        time_to_first_token_seconds=min(first_tokens.values()) if first_tokens else None,
        usage=data.usage,
        cost_usd=cost,
        unpriced=unpriced_requests(data),
        partial=is_partial(data),
        unmeasured=is_unmeasured(data),
        stalls=data.stalls or 0,
        finish_reason=data.finish_reason,
    )
