"""Assembler: turns the raw records of many runs into events."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from sidestream.events import Payload, StreamEvent
from sidestream.events.ids import span_id_of
from sidestream.events.scores import score_event

from .records import AnyRecord, ChildEnded, ChildStarted, FlushDeltas, RequestEnded, RunStarted, Scored
from .response import known
from .run import Run
from .sent import Histories

MAX_NAMES = 1_000
"""Maximum number of unpriced model names to remember."""
MAX_SCORED = 500
"""Number of most recently started runs to remember for scores."""


class _RecentRun(NamedTuple):
    """Attributes of a run that its scores inherit."""

    agent_name: str | None
    trace_id: str | None


class RunAssembler:
    """Builds events from raw records. Not thread-safe: fed by one thread, without clock or I/O of its own.

    Args:
        wanted: Predicate for payloads; rejected payloads produce no event and take no sequence number.
        stall_seconds: Minimum wait for the provider between two chunks, in seconds, that counts as a stall.
        chunk_seconds: Seconds for which deltas are collected into one `llm_chunk`; 0: one event per delta; None: one
            event per part.
        report_child: Receives the start and end of sub-agents if another assembler handles the parent run.
    """

    def __init__(
        self,
        *,
        wanted: Callable[[Payload], bool] | None = None,
        stall_seconds: float = 2.0,
        chunk_seconds: float | None = 0.1,
        report_child: Callable[[ChildStarted | ChildEnded], None] | None = None,
    ) -> None:
        self._wanted = wanted
        self._stall_ns = int(stall_seconds * 1e9)
        self._chunk_ns = None if chunk_seconds is None else int(chunk_seconds * 1e9)
        self._report_child = report_child
        self._runs: dict[int, Run] = {}
        self._histories = Histories()
        self._recent: dict[str, _RecentRun] = {}
        self._pending: list[StreamEvent] = []
        self.unpriced_requests = 0
        """Number of model calls, failed attempts included, with token usage but no known price."""
        self.unpriced_models: set[str] = set()

    def feed(self, record: AnyRecord, emit: Callable[[StreamEvent], None]) -> None:
        """Process the next record, in the order of recording, and pass the resulting events to `emit`."""
        try:
            self._apply(record)
        finally:
            self._emit(emit)

    def flush_stale(self, now_ns: int, emit: Callable[[StreamEvent], None]) -> None:
        """Emit the collected deltas of stalled streams, as of the monotonic time `now_ns`."""
        for run in list(self._runs.values()):
            run.flush_stale(now_ns)
        self._emit(emit)

    def forget_runs(self) -> None:
        """Discard runs in progress and counters in a forked child, since they belong to the parent process."""
        self._runs.clear()
        self._recent.clear()
        self._pending.clear()
        self.unpriced_requests = 0
        self.unpriced_models.clear()

    def _emit(self, emit: Callable[[StreamEvent], None]) -> None:
        if self._pending:
            for event in self._pending:
                emit(event)
            self._pending.clear()

    def _apply(self, record: AnyRecord) -> None:
        if isinstance(record, FlushDeltas):
            for each in list(self._runs.values()):
                each.flush_stale(sys.maxsize)
            return
        if isinstance(record, RunStarted):
            self._recent[record.run_id] = _RecentRun(record.agent_name, record.data.trace_id)
            if len(self._recent) > MAX_SCORED:
                del self._recent[next(iter(self._recent))]
            self._runs[record.run] = Run(
                record,
                self._pending.append,
                wanted=self._wanted,
                stall_ns=self._stall_ns,
                chunk_ns=self._chunk_ns,
                histories=self._histories,
            )
            if record.parent is not None:
                self._report_to_parent(ChildStarted(run=record.parent, at=record.at))
            return
        if isinstance(record, Scored):
            self._score(record)
            return
        run = self._runs.get(record.run)
        if run is None:
            return  # late teardown after the end of the run
        if isinstance(record, RequestEnded):
            record = msgspec.structs.replace(record, facts=known(record.facts))
        unpriced = run.unpriced
        run.apply(record)
        if run.unpriced > unpriced and isinstance(record, RequestEnded):
            self._count_unpriced(record, run.unpriced - unpriced)
        if run.ended:
            del self._runs[record.run]
            if run.parent is not None:
                ended = ChildEnded(run=run.parent, at=record.at, totals=run.everything, complete=run.complete)
                self._report_to_parent(ended)

    def _score(self, record: Scored) -> None:
        recent, data = self._recent.get(record.run_id), record.data
        if recent is not None and recent.trace_id is not None:
            span_id = span_id_of(record.run_id, 0)
            data = msgspec.structs.replace(data, trace_id=recent.trace_id, span_id=span_id)
        when = datetime.fromtimestamp(record.wall // 1_000 / 1_000_000, UTC)
        agent = None if recent is None else recent.agent_name
        self._pending.append(score_event(record.run_id, data, agent_name=agent, timestamp=when))

    def _report_to_parent(self, record: ChildStarted | ChildEnded) -> None:
        if self._report_child is not None:
            self._report_child(record)
        else:
            self._apply(record)

    def _count_unpriced(self, record: RequestEnded, count: int) -> None:
        self.unpriced_requests += count
        facts = known(record.facts)
        names = [attempt.model for attempt in facts.attempts if attempt.usage is not None and attempt.cost_usd is None]
        if facts.unpriced:
            names.append(facts.response_model or "unknown")
        if len(self.unpriced_models) < MAX_NAMES:
            self.unpriced_models.update(names)
