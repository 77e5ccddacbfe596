"""Forwarding of a log to one exporter, each event once, across restarts: for `sidestream replay` and `collect`.

One checkpoint holds the file positions, the runs in progress, and the counters of an exporter that has any. After a
kill, a forwarder resumes from its last checkpoint and exports the events since then again. The repetition is harmless:
spans get the same ids, counters are reset to the checkpoint, and lines of a log are identified by run and sequence
number.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import msgspec

from sidestream.diagnostics import warn_once
from sidestream.events import (
    AgentEnd,
    AgentStart,
    AnyEvent,
    LLMChunk,
    LLMEnd,
    LLMStart,
    RunOutcome,
    Score,
    StreamEvent,
    ToolEnd,
    ToolStart,
    make_event,
)
from sidestream.events.ids import derive_id
from sidestream.log.reader import Problem
from sidestream.log.sequence import Ranges, is_next_piece
from sidestream.log.writers import Writers
from sidestream.recording.content import NONE, ContentPolicy, apply_policy

from .checkpoint import Checkpoint
from .delivery import Delivery
from .follow import Batch, Follower, Position

SAVE_SECONDS = 1.0
"""Minimum seconds between two checkpoints while the log is read."""
GRACE_SECONDS = 2.0
"""Seconds without an event of a run, after which its writer is checked."""
MAX_FINISHED = 2_000
"""Number of finished runs, and of scores, that are remembered to recognise duplicates."""
MAX_LOST = 200
"""Number of lost runs that are kept whole, so that a run that continues after all is exported to its end."""
LOST = cast(RunOutcome, "lost")

_K = TypeVar("_K")

Chooser = Callable[[StreamEvent], Iterable[StreamEvent]]
"""Selects the events to export for an event: none, the event, or also events held back before."""


@runtime_checkable
class KeepsState(Protocol):
    """Exporter with counters that survive a restart of the process."""

    def dump_state(self) -> Any:
        """Counters, as a value that JSON can represent."""

    def load_state(self, state: Any) -> None:
        """Restore the counters from the result of `dump_state`.

        Called before `start`, as are the `export` calls that catch up, so that a scrape never sees counters that are
        lower than before the restart.
        """


class OpenRun(msgspec.Struct, omit_defaults=True):
    """Run in progress."""

    agent_name: str | None
    last: datetime
    """Time of the last event; `offset` is the same in seconds since the start of the run."""
    offset: float
    seqs: list[list[int]] = []
    """Sequence numbers of the events so far, as ranges."""
    last_chunk: int = -1
    files: list[bytes] = []
    """Names of the run's files as bytes: file names need not be valid text."""
    opening: dict[str, AnyEvent] = {}
    """Start events without an end so far: exported first to an exporter that has not seen the run."""

    def is_new(self, event: StreamEvent) -> bool:
        """Whether the event was not seen before; another piece of a chunk counts as new."""
        seq, chunk = event.seq, type(event.data) is LLMChunk
        if self.seqs and seq == self.seqs[-1][1] + 1:
            self.seqs[-1][1] = seq
        else:
            known = Ranges(self.seqs)
            if seq in known:
                return is_next_piece(seq, is_chunk=chunk, last_chunk=self.last_chunk)
            known.add(seq, seq)
            self.seqs = known.ranges
        self.last_chunk = seq if chunk else -1
        return True

    def note(self, event: StreamEvent, file: str, content: ContentPolicy) -> None:
        """Record that `event` of `file` is exported. Start events are kept, with their content reduced to `content`."""
        self.last, self.offset = event.timestamp, event.offset
        if file and (raw := os.fsencode(file)) not in self.files:
            self.files.append(raw)
        match event.data:
            case AgentStart():
                opens = "run"
            case LLMStart(request=request) | LLMEnd(request=request):
                opens = f"request {request}"
            case ToolStart(tool_name=name, tool_call_id=call) | ToolEnd(tool_name=name, tool_call_id=call):
                opens = f"tool {name} {call}"
            case _:
                return
        if isinstance(event.data, LLMEnd | ToolEnd):
            self.opening.pop(opens, None)
        else:
            self.opening[opens] = cast(AnyEvent, apply_policy(event, content, None))

    @property
    def start(self) -> AgentStart | None:
        event = self.opening.get("run")
        return None if event is None else cast(AgentStart, event.data)


class State(msgspec.Struct):
    """State of a forwarder in its checkpoint."""

    exporter: str
    """Digest of the exporter's name and target. Options are left out, because they may change and be secret."""
    files: dict[str, Position]
    runs: dict[str, OpenRun]
    finished: list[str]
    memory: Any = None
    scored: list[int] = []
    """Sequence numbers of the latest scores."""
    lost: dict[str, OpenRun] = {}
    """Runs that were exported as lost, in their last state."""


class Forwarder:
    """Forwarder of a log to one exporter.

    Args:
        follower: source of the events.
        delivery: destination of the events.
        spec: specification of the exporter in settings.
        checkpoint: file of the state; None keeps the state in memory only.
        choose: selection of the events to export; None for all.
    """

    def __init__(
        self,
        follower: Follower,
        delivery: Delivery,
        *,
        spec: str,
        checkpoint: Checkpoint[State] | None = None,
        choose: Chooser | None = None,
    ) -> None:
        self.follower = follower
        self.delivery = delivery
        self._target = derive_id(spec.partition("?")[0], size=16)
        exporter = delivery.exporter
        self._keeps_state = exporter if isinstance(exporter, KeepsState) else None
        self._checkpoint = checkpoint
        self._choose = choose
        self._open: dict[str, OpenRun] = {}
        self._last_event_at: dict[str, float] = {}
        self._finished: dict[str, None] = {}
        self._lost: dict[str, OpenRun] = {}
        self._seen_scores: dict[int, None] = {}
        self._sending: set[str] = set()
        content = exporter.content
        self._kept_content = content if content.mode == "full" else NONE  # a policy that truncates would truncate twice
        self._saved_at = time.monotonic()
        self._caught_up = False
        self._to_reopen: list[StreamEvent] = []
        self.events = self.duplicates = self.runs = self.runs_sent = self.lost_runs = 0

    @property
    def runs_in_progress(self) -> int:
        return len(self._open)

    def load(self) -> None:
        """Restore the checkpoint, if there is one of this exporter.

        Raises `ConfigurationError` if the checkpoint cannot be read.
        """
        state = self._checkpoint.load() if self._checkpoint is not None else None
        if state is None or state.exporter != self._target:
            return
        self.follower.positions = state.files
        self._finished = dict.fromkeys(state.finished)
        self._open, self._lost = state.runs, state.lost
        self._seen_scores = dict.fromkeys(state.scored)
        self._last_event_at = dict.fromkeys(state.runs, time.monotonic())
        if self._keeps_state is not None and state.memory is not None:
            self._keeps_state.load_state(state.memory)

    def resume(self) -> bool:
        """Export the start events of the runs in progress. False if the exporter stayed unavailable."""
        return self._reopen(event for run in self._open.values() for event in run.opening.values())

    def forward(self, on_batch: Callable[[Batch], None] | None = None) -> bool:
        """Export new events up to the present end of the log. False if stopped or the exporter stayed unavailable."""
        # No grace period after a restart: runs already exported as lost must be ended again before the endpoint opens.
        gone = self._writers_gone(GRACE_SECONDS if self._caught_up else 0.0)
        before, ended = self.events, self.lost_runs
        for batch in self.follower.poll():
            if self.events > before and time.monotonic() - self._saved_at > SAVE_SECONDS:
                self.save()
            if self.delivery.stopped:
                self.save()
                return False
            if not self.take(batch.events, batch.file):
                return False
            if on_batch is not None:
                on_batch(batch)
        if not self.end_lost_runs(gone):
            return False
        self._caught_up = True
        if not self.delivery.start():
            return False
        if self.events > before or self.lost_runs > ended:
            self.delivery.flush()
            self.save()
        return True

    def take(self, events: Sequence[StreamEvent], file: str = "") -> bool:
        """Export `events` of `file`, except duplicates. False if the exporter stayed unavailable."""
        self._to_reopen.clear()
        new = [event for event in events if self._admit(event, file)]
        return self._reopen(self._to_reopen) and self._deliver(new)

    def end_lost_runs(self, gone: Mapping[str, float] | None = None) -> bool:
        """Export an end with outcome `lost` for runs whose writers are gone.

        `gone` holds runs whose writers were gone before the last poll, with the time of their last event then: by now,
        the last lines of those writers have been read. None checks the writers now.
        """
        ends: list[StreamEvent] = []
        for run_id, last_event_at in (self._writers_gone(0.0) if gone is None else gone).items():
            run = self._open.get(run_id)
            if run is not None and self._last_event_at.get(run_id, 0.0) == last_event_at:
                ends.append(_lost_end(run_id, run))
                self._finish(run_id, lost=run)
                self.lost_runs += 1
        # A durable log gets no such end, because the log that it copies has none.
        return self.delivery.exporter.durable or not ends or self._deliver(ends)

    def save(self) -> None:
        """Save the checkpoint. A failure is logged, and the previous checkpoint stays."""
        if self._checkpoint is None:
            return
        state = State(
            exporter=self._target,
            files=self.follower.positions,
            runs=self._open,
            finished=list(self._finished),
            lost=self._lost,
            scored=list(self._seen_scores),
            memory=None if self._keeps_state is None else self._keeps_state.dump_state(),
        )
        try:
            self._checkpoint.save(state)
        except OSError as error:
            path, reason = self._checkpoint.path, error.strerror
            warn_once("checkpoint cannot be written", path, reason or "", path=path, reason=reason)
        self._saved_at = time.monotonic()

    def _deliver(self, events: Sequence[StreamEvent]) -> bool:
        if self._choose is not None:
            events = [chosen for event in events for chosen in self._choose(event)]
        # An exporter with restored counters must not serve them before they are up to date.
        waits = not self._caught_up and self._keeps_state is not None
        if not (waits or self.delivery.start()) or not self.delivery.deliver(events):
            return False
        sent = {event.run_id for event in events if type(event.data) is not Score}
        self.runs_sent += len(sent - self._sending)
        self._sending = {run_id for run_id in self._sending | sent if run_id in self._open}
        return True

    def _reopen(self, opening: Iterable[StreamEvent]) -> bool:
        """Export start events of runs that the exporter has not seen, or has ended. False if it stayed unavailable."""
        opening = sorted(opening, key=lambda event: event.timestamp)
        # A durable log gets none of them: it holds these events already, or its readers have the log that is read here.
        return not opening or self.delivery.exporter.durable or self._deliver(opening)

    def _admit_score(self, event: StreamEvent) -> bool:
        """Whether a score is new. Scores belong to no run in progress, and may arrive long after the run's end."""
        if event.seq in self._seen_scores:
            self.duplicates += 1
            return False
        _remember(self._seen_scores, event.seq)
        self.events += 1
        return True

    def _admit(self, event: StreamEvent, file: str) -> bool:
        if type(event.data) is Score:
            return self._admit_score(event)
        run_id = event.run_id
        run = self._open.get(run_id)
        if run is None:
            if run_id in self._finished or (run_id in self._lost and not self._revive(event)):
                self.duplicates += 1
                return False
            if (run := self._open.get(run_id)) is None:
                run = self._open[run_id] = OpenRun(event.agent_name, event.timestamp, event.offset)
                self.runs += 1
        if not run.is_new(event):
            self.duplicates += 1
            return False
        self.events += 1
        if type(event.data) is AgentEnd:
            self._finish(run_id)
        else:
            run.note(event, file, self._kept_content)
            self._last_event_at[run_id] = time.monotonic()
        return True

    def _revive(self, event: StreamEvent) -> bool:
        """Reopen the run of `event`, which was exported as lost, unless `event` was exported before."""
        if event.seq in Ranges(self._lost[event.run_id].seqs):
            return False
        run = self._open[event.run_id] = self._lost.pop(event.run_id)
        self._to_reopen += run.opening.values()
        self.lost_runs -= 1
        return True

    def _finish(self, run_id: str, *, lost: OpenRun | None = None) -> None:
        del self._open[run_id]
        self._last_event_at.pop(run_id, None)
        if lost is None:
            _remember(self._finished, run_id)
        else:
            self._lost[run_id] = lost
            if len(self._lost) > MAX_LOST:
                oldest = next(iter(self._lost))
                del self._lost[oldest]
                _remember(self._finished, oldest)

    def _writers_gone(self, silent: float) -> dict[str, float]:
        """Runs without an event for `silent` seconds whose writers are gone, with the time of their last event."""
        writers = Writers()
        still = time.monotonic() - silent
        quiet = [(run_id, run) for run_id, run in self._open.items() if self._last_event_at.get(run_id, 0.0) <= still]
        return {
            run_id: self._last_event_at.get(run_id, 0.0)
            for run_id, run in quiet
            if not writers.alive(run.start, [os.fsdecode(raw) for raw in run.files])
        }


def _remember(known: dict[_K, None], key: _K) -> None:
    """Add `key`, and forget the oldest keys beyond `MAX_FINISHED`."""
    known[key] = None
    if len(known) > MAX_FINISHED:
        del known[next(iter(known))]


def _lost_end(run_id: str, run: OpenRun) -> StreamEvent:
    """`agent_end` of a run whose writer is gone, at the time of its last event. Totals are unknown."""
    last = run.seqs[-1][1] if run.seqs else -1
    return make_event(
        AgentEnd(outcome=LOST, success=False, duration_seconds=run.offset),
        timestamp=run.last,
        offset=run.offset,
        run_id=run_id,
        seq=last + 1,
        agent_name=run.agent_name,
    )


def log_problem(problem: Problem) -> None:
    """Log that a line could not be read, without its content."""
    kind, file = problem.kind, problem.file
    warn_once("log has lines that cannot be read", file, kind, file=file, line=problem.line, problem=kind)
