"""Checks of a log: every line, and the sequence numbers of every run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec

from sidestream.events import AnyEvent
from sidestream.log import Problem
from sidestream.log.reader import Block, blocks_of, decode_block, decoder_of
from sidestream.log.sequence import Ranges, is_next_piece


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Fault of a line, or of a run with missing events."""

    file: str
    line: int
    kind: str
    """Kind of `sidestream.log.Problem`, or `gap`, `twice`, `no_start`, `after_end`."""
    message: str
    run_id: str | None = None


@dataclass(slots=True)
class _Run:
    """Sequence numbers of a run so far, and the places where they jumped."""

    seen: Ranges
    next: int = 0
    """Sequence number after the last event."""
    last_chunk: int = -1
    started: bool = False
    ended: int | None = None
    """Sequence number of `agent_end`."""
    jumps: dict[int, tuple[str, int]] = field(default_factory=dict)
    """File and line of each event that did not follow its predecessor."""


class Check:
    """Checker that reads a log once, file by file in order of time."""

    def __init__(self, chosen: set[str] | None = None) -> None:
        self.events = 0
        self._chosen = chosen
        self._runs: dict[str, _Run] = {}

    @property
    def runs(self) -> int:
        """Number of runs so far."""
        return len(self._runs)

    def faults(self, files: Iterable[str]) -> Iterator[Fault]:
        """Faults of lines as they are read, then faults of whole runs."""
        for file in files:
            problems: list[Problem] = []
            for block in blocks_of(file, problems.append):
                numbered = list(_numbered(block, file, problems))
                found = [fault for line, event in numbered for fault in self._event(file, line, event)]
                yield from sorted([*found, *_unread(problems)], key=lambda fault: fault.line)
            yield from _unread(problems)
        for run_id, run in self._runs.items():
            yield from _gaps(run_id, run)

    def _event(self, file: str, line: int, event: AnyEvent) -> Iterator[Fault]:
        run_id, seq, kind = event.run_id, event.seq, event.event_type
        if self._chosen is not None and run_id not in self._chosen:
            return
        self.events += 1
        if kind == "score":  # scores are not numbered among the events of the run
            return
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = _Run(Ranges([]))
        if is_next_piece(seq, is_chunk=kind == "llm_chunk", last_chunk=run.last_chunk):
            return
        if kind == "llm_chunk":
            run.last_chunk = seq
        if seq in run.seen:
            yield _fault(file, line, "twice", f"event {seq} is a duplicate", run_id)
            return
        if seq != run.next:
            run.jumps[seq] = (file, line)
        run.seen.add(seq, seq)
        run.next = seq + 1
        if kind == "agent_start":
            run.started = True
        if run.ended is not None and seq > run.ended:
            yield _fault(file, line, "after_end", f"event {seq} comes after the end, event {run.ended}", run_id)
        if kind == "agent_end":
            run.ended = seq


def _numbered(block: Block, file: str, problems: list[Problem]) -> Iterator[tuple[int, AnyEvent]]:
    """Events of a block with their line numbers."""
    decoder = decoder_of(None)
    before = len(problems)
    events = decode_block(block, decoder, file, problems.append)
    if len(events) == block.lines:
        yield from enumerate(events, block.line)
        return
    del problems[before:]  # decode again line by line, so that each event gets its own line number
    for number, line in enumerate(block.data.split(b"\n"), block.line):
        alone = msgspec.structs.replace(block, data=line, line=number)
        for event in decode_block(alone, decoder, file, problems.append) if line.strip() else ():
            yield number, event


def _unread(problems: list[Problem]) -> Iterator[Fault]:
    for problem in problems:
        yield _fault(problem.file, problem.line, problem.kind, problem.message)
    problems.clear()


def _gaps(run_id: str, run: _Run) -> Iterator[Fault]:
    """Gaps in a run's sequence numbers. Without any chunk, the log was written without them, and gaps are expected."""
    ranges = run.seen.ranges
    file, line = run.jumps.get(ranges[0][0], ("", 0))
    if not run.started:
        yield _fault(
            file, line, "no_start", f"the run begins with event {ranges[0][0]}, and not with agent_start", run_id
        )
    for (_, before), (after, _) in pairwise(ranges) if run.last_chunk >= 0 else ():
        file, line = run.jumps.get(after, (file, line))
        missing = "1 event is" if after - before == 2 else f"{after - before - 1:,} events are"
        yield _fault(file, line, "gap", f"{missing} missing between {before} and {after}", run_id)


def _fault(file: str, line: int, kind: str, message: str, run_id: str | None = None) -> Fault:
    text = message if run_id is None else f"run {run_id}: {message}"
    return Fault(file=file, line=line, kind=kind, message=text, run_id=run_id)
