"""Forwarding of a log to one exporter, each event once, across restarts: for `sidestream replay` and `collect`.

What has been exported is remembered together, in one checkpoint: the positions in the files, the runs in progress, and
what the exporter counts, where it counts. Killed between two checkpoints, a forwarder goes on from the last one, and
what it had exported since is exported again: spans have the same ids then, counters are taken back to where they were,
and the lines of a log are known by run and number.
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
"""Between two checkpoints, at least."""
GRACE_SECONDS = 2.0
"""Seconds without an event of a run, after which it is checked whether its writer is gone."""
MAX_FINISHED = 2_000
"""Runs that are over, and scores, that are remembered, so that what comes of them once more is known."""
MAX_LOST = 200
"""Lost runs that are kept whole, so that a run that goes on after all is exported to its end."""
LOST = cast(RunOutcome, "lost")

_K = TypeVar("_K")

Chooser = Callable[[StreamEvent], Iterable[StreamEvent]]
"""What of an event is to be exported: nothing, the event, or also what was held back before it."""


@runtime_checkable
class KeepsState(Protocol):
    """An exporter with counters that survive a restart of the process."""

    def dump_state(self) -> Any:
        """What has been counted, as JSON can hold it."""

    def load_state(self, state: Any) -> None:
        """Go on from what `dump_state` gave. Called before `start`, and so is `export` for what comes next: an exporter
        that is asked should not answer before it is where it was."""


class OpenRun(msgspec.Struct, omit_defaults=True):
    """A run in progress."""

    agent_name: str | None
    last: datetime
    """When it was last heard of; with `offset`, in seconds since its start."""
    offset: float
    seqs: list[list[int]] = []
    """What has come, as ranges."""
    last_chunk: int = -1
    files: list[bytes] = []
    """Their names as the system has them, which need not be text."""
    opening: dict[str, AnyEvent] = {}
    """Events of what began and has not ended: sent first to an exporter that has not seen the run."""

    def is_new(self, event: StreamEvent) -> bool:
        """Whether this event has not come before; a further piece of a chunk is new as well."""
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
        """`event`, from `file`, is exported; of what it opens, as much is kept as `content` allows."""
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
    """A checkpoint."""

    exporter: str
    """Digest of its name and target in settings. Options may change, and be secret."""
    files: dict[str, Position]
    runs: dict[str, OpenRun]
    finished: list[str]
    memory: Any = None
    scored: list[int] = []
    """Numbers of the scores that came last."""
    lost: dict[str, OpenRun] = {}
    """Runs that were ended as lost, as far as they had come."""


class Forwarder:
    """Forwarder of a log to one exporter.

    Args:
        follower: Where events come from.
        delivery: Where they go.
        spec: What the exporter is called in settings.
        checkpoint: Where to remember; None remembers nothing beyond this process.
        choose: What is to be exported; None for everything.
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
        self._heard: dict[str, float] = {}
        self._finished: dict[str, None] = {}
        self._lost: dict[str, OpenRun] = {}
        self._scored: dict[int, None] = {}
        self._sending: set[str] = set()
        content = exporter.content
        self._kept_content = content if content.mode == "full" else NONE  # a policy that shortens would shorten twice
        self._saved_at = time.monotonic()
        self._caught_up = False
        self._to_reopen: list[StreamEvent] = []
        self.events = self.duplicates = self.runs = self.runs_sent = self.lost_runs = 0

    @property
    def runs_in_progress(self) -> int:
        return len(self._open)

    def load(self) -> None:
        """Go on from the checkpoint, if there is one of this exporter.

        Raises `ConfigurationError` for one that cannot be read.
        """
        state = self._checkpoint.load() if self._checkpoint is not None else None
        if state is None or state.exporter != self._target:
            return
        self.follower.positions = state.files
        self._finished = dict.fromkeys(state.finished)
        self._open, self._lost = state.runs, state.lost
        self._scored = dict.fromkeys(state.scored)
        self._heard = dict.fromkeys(state.runs, time.monotonic())
        if self._keeps_state is not None and state.memory is not None:
            self._keeps_state.load_state(state.memory)

    def resume(self) -> bool:
        """Tell the exporter of the runs that were in progress. False where its sink was away to the end."""
        return self._reopen(event for run in self._open.values() for event in run.opening.values())

    def forward(self, on_batch: Callable[[Batch], None] | None = None) -> bool:
        """Export what has come since, to the end of the log as it is now. False where that could not be done."""
        # At once after a restart: runs that were ended as lost before it are ended again before the endpoint opens.
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
        if not self.give_up(gone):
            return False
        self._caught_up = True
        if not self.delivery.start():
            return False
        if self.events > before or self.lost_runs > ended:
            self.delivery.flush()
            self.save()
        return True

    def take(self, events: Sequence[StreamEvent], file: str = "") -> bool:
        """Export `events`, which stand in `file`, but for those that came before."""
        self._to_reopen.clear()
        new = [event for event in events if self._admit(event, file)]
        return self._reopen(self._to_reopen) and self._deliver(new)

    def give_up(self, gone: Mapping[str, float] | None = None) -> bool:
        """End the runs of which no more can come, as their writers are gone.

        `gone` are those that this was true of before the log was last looked at, with when they were heard of then:
        what a writer wrote last has been read now. None: those of which it is true now.
        """
        ends: list[StreamEvent] = []
        for run_id, heard in (self._writers_gone(0.0) if gone is None else gone).items():
            run = self._open.get(run_id)
            if run is not None and self._heard.get(run_id, 0.0) == heard:
                ends.append(_lost_end(run_id, run))
                self._finish(run_id, lost=run)
                self.lost_runs += 1
        # The log itself never holds such an end, and neither does a copy of it.
        return self.delivery.exporter.durable or not ends or self._deliver(ends)

    def save(self) -> None:
        """Remember what has been exported."""
        if self._checkpoint is None:
            return
        state = State(
            exporter=self._target,
            files=self.follower.positions,
            runs=self._open,
            finished=list(self._finished),
            lost=self._lost,
            scored=list(self._scored),
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
        # An exporter that remembers answers nobody until it is where it was.
        waits = not self._caught_up and self._keeps_state is not None
        if not (waits or self.delivery.start()) or not self.delivery.deliver(events):
            return False
        sent = {event.run_id for event in events if type(event.data) is not Score}
        self.runs_sent += len(sent - self._sending)
        self._sending = {run_id for run_id in self._sending | sent if run_id in self._open}
        return True

    def _reopen(self, opening: Iterable[StreamEvent]) -> bool:
        """Export what is open in runs that the exporter has not seen, or has ended. False where it was unavailable."""
        opening = sorted(opening, key=lambda event: event.timestamp)
        # A durable log gets none of it: it holds these events, or its readers have the log that is read here.
        return not opening or self.delivery.exporter.durable or self._deliver(opening)

    def _admit_score(self, event: StreamEvent) -> bool:
        """Whether a score is new. It belongs to no run in progress, and comes to runs that are long over."""
        if event.seq in self._scored:
            self.duplicates += 1
            return False
        _remember(self._scored, event.seq)
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
            self._heard[run_id] = time.monotonic()
        return True

    def _revive(self, event: StreamEvent) -> bool:
        """Resume the run of `event`, which was exported as lost, unless `event` was exported before."""
        if event.seq in Ranges(self._lost[event.run_id].seqs):
            return False
        run = self._open[event.run_id] = self._lost.pop(event.run_id)
        self._to_reopen += run.opening.values()
        self.lost_runs -= 1
        return True

    def _finish(self, run_id: str, *, lost: OpenRun | None = None) -> None:
        del self._open[run_id]
        self._heard.pop(run_id, None)
        if lost is None:
            _remember(self._finished, run_id)
        else:
            self._lost[run_id] = lost
            if len(self._lost) > MAX_LOST:
                oldest = next(iter(self._lost))
                del self._lost[oldest]
                _remember(self._finished, oldest)

    def _writers_gone(self, silent: float) -> dict[str, float]:
        """Runs of which nothing was heard for `silent` seconds, nor will be; with when something last was."""
        writers = Writers()
        still = time.monotonic() - silent
        quiet = [(run_id, run) for run_id, run in self._open.items() if self._heard.get(run_id, 0.0) <= still]
        return {
            run_id: self._heard.get(run_id, 0.0)
            for run_id, run in quiet
            if not writers.alive(run.start, [os.fsdecode(raw) for raw in run.files])
        }


def _remember(known: dict[_K, None], key: _K) -> None:
    """Keep `key` among those that came last."""
    known[key] = None
    if len(known) > MAX_FINISHED:
        del known[next(iter(known))]


def _lost_end(run_id: str, run: OpenRun) -> StreamEvent:
    """`agent_end` of a run whose writer is gone, at the time of its last event. Its totals are unknown."""
    last = run.seqs[-1][1] if run.seqs else -1
    return make_event(
        AgentEnd(outcome=LOST, success=False, duration_seconds=run.offset),
        timestamp=run.last,
        offset=run.offset,
        run_id=run_id,
        seq=last + 1,
        agent_name=run.agent_name,
    )


def told(problem: Problem) -> None:
    """Says that a line could not be read, without saying what it holds."""
    kind, file = problem.kind, problem.file
    warn_once("log has lines that cannot be read", file, kind, file=file, line=problem.line, problem=kind)
