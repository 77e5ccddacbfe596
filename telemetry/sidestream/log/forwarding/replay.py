"""A log, exported again: what an outage left out, or everything to a new place, with the times and ids it had."""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from sidestream.errors import ConfigurationError
from sidestream.events import (
    AgentEnd,
    AgentStart,
    LLMChunk,
    LLMEnd,
    LLMStart,
    StreamEvent,
    ToolEnd,
    ToolStart,
)
from sidestream.log.files import Paths, files_of
from sidestream.log.reader import OnProblem, read
from sidestream.log.runs.filters import Filter
from sidestream.log.runs.iteration import runs
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.registry import shown

from .checkpoint import Checkpoint
from .delivery import BACKOFF, Delivery
from .follow import Batch, Follower
from .forwarder import Chooser, Forwarder, State

PATIENCE = 60.0
"""Seconds to wait for an exporter that is away."""
COMPRESSION = 10
"""By how much logs are compressed, about."""

OnProgress = Callable[[int, int], None]
"""Called with how many bytes of the log have been read, and how many there are; of compressed files as they are."""


class Replayed(msgspec.Struct, kw_only=True):
    """What a replay came to. `chosen == exported + sum(dropped.values()) + pending`, but for a dry run."""

    exporter: str
    """Its name and target; options may be secret."""
    complete: bool
    """Whether all that was chosen has been handed over."""
    runs: int
    """Runs that were read."""
    lost_runs: int
    """Of these, runs that have no end in the log and whose writer is gone. They are exported as ended so."""
    events: int
    """Events that were read, each counted once."""
    duplicates: int
    """Lines that were there more than once."""
    delivered_before: int
    """Events left out, since the exporter's record has what they belong to."""
    chosen: int
    """Events for the exporter: of the runs that were asked for, without those that it has no use for."""
    exported: int
    dropped: dict[str, int]
    """By reason."""
    pending: int
    """Not exported, as the exporter was away to the end."""
    spans: int | None
    """Spans that were accepted, from an exporter of spans that counts them."""
    seconds: float


@runtime_checkable
class HasRecord(Protocol):
    """An exporter that keeps a record of what was delivered."""

    def delivered(self) -> Mapping[str, set[int]] | None:
        """By run: the numbers of the events that begin what was delivered. None where no record is kept."""


class Missing:
    """Chooses what is not on an exporter's record.

    What an exporter makes of a run is named by the event that begins it: the run itself, a request, a tool call. What
    was delivered is left out from its begin to its end, and a run of which nothing is missing altogether.
    """

    def __init__(self, delivered: Mapping[str, set[int]]) -> None:
        self._delivered = delivered
        self._runs: dict[str, _Partly] = {}
        self.left_out = 0

    def __call__(self, event: StreamEvent) -> Iterable[StreamEvent]:
        there = self._delivered.get(event.run_id)
        if there is None:
            return (event,)
        run = self._runs.setdefault(event.run_id, _Partly(there))
        chosen = run.choose(event)
        if type(event.data) is AgentEnd:
            del self._runs[event.run_id]
        self.left_out += 1 - len(chosen)
        return chosen


class _Partly:
    """A run of which something was delivered."""

    def __init__(self, there: set[int]) -> None:
        self._there = there
        self._start: StreamEvent | None = None
        self._begun: dict[tuple[object, ...], int] = {}

    def choose(self, event: StreamEvent) -> list[StreamEvent]:
        data, seq = event.data, event.seq
        match data:
            case AgentStart():
                self._start = event  # told when something follows that is missing
                return []
            case AgentEnd():
                missing = 0 not in self._there
            case LLMStart() | ToolStart():
                self._begun[_name(data)] = seq
                missing = seq not in self._there
            case LLMEnd() | ToolEnd():
                missing = self._begun.pop(_name(data), seq) not in self._there
            case LLMChunk():
                missing = self._begun.get(("request", data.request), seq) not in self._there
            case _:
                missing = 0 not in self._there
        if not missing:
            return []
        start, self._start = self._start, None
        return [event] if start is None else [start, event]


def _name(data: Any) -> tuple[object, ...]:
    if isinstance(data, LLMStart | LLMEnd):
        return "request", data.request
    return data.tool_name, data.tool_call_id


def replay(
    paths: Paths,
    exporter: Exporter,
    *,
    spec: str = "",
    where: Filter | None = None,
    only_missing: bool = False,
    speed: float | None = None,
    dry_run: bool = False,
    stay: bool = False,
    resume: str | os.PathLike[str] | None = None,
    patience: float = PATIENCE,
    backoff: tuple[float, float] = BACKOFF,
    stop: threading.Event | None = None,
    on_progress: OnProgress | None = None,
    on_problem: OnProblem | None = None,
    on_wait: Callable[[], None] | None = None,
) -> Replayed:
    """Export a log once more. Spans have the ids that they had, so that twice is once.

    Args:
        paths: folders, files or globs.
        exporter: where to. It is started, flushed and closed here.
        spec: how it is written in settings, for the checkpoint.
        where: which runs; None for all.
        only_missing: leave out what is on the exporter's own record of what was delivered.
        speed: 1 replays at the pace at which things happened, 10 ten times as fast; None as fast as may be.
        dry_run: read and choose, but export nothing.
        stay: keep the exporter open at the end until `stop` is set: for one that is asked.
        resume: file in which it is remembered how far it came, for the next time.
        patience: seconds to wait for an exporter that is away.
        backoff: seconds of the first and the longest pause between two tries.
        stop: set by another thread, or a signal handler, ends the replay.
        on_progress: see `OnProgress`.
        on_problem: called for each line that could not be read.
        on_wait: called when the exporter is away.

    Raises `ConfigurationError` for what cannot be done.
    """
    begun = time.monotonic()
    stop = stop or threading.Event()
    if speed is not None and not speed > 0:
        raise ConfigurationError(f"speed {speed!r}: must be above 0")
    if speed is not None and resume is not None:
        raise ConfigurationError("a replay at a given speed cannot be resumed: leave out one of the two")
    files = files_of(paths)
    if not isinstance(paths, str | os.PathLike):
        paths = list(paths)
    missing = Missing(_record_of(exporter)) if only_missing else None
    wanted = None if where is None else {run.run_id for run in runs(paths, where)}
    delivery = (
        _Dry(exporter, stop=stop)
        if dry_run
        else Delivery(exporter, stop=stop, patience=patience, backoff=backoff, on_wait=on_wait)
    )
    checkpoint = None if resume is None or dry_run else Checkpoint(resume, State)
    forwarder = Forwarder(
        Follower(paths, on_problem=on_problem),
        delivery,
        spec=spec,
        checkpoint=checkpoint,
        choose=_chooser(wanted, missing),
    )
    try:
        forwarder.load()
        complete = forwarder.resume() and delivery.start()
        if complete and speed is None:
            complete = forwarder.forward(on_batch=_progress(files, on_progress))
        elif complete:
            complete = all(forwarder.take([event]) for event in _paced(files, speed or 1.0, stop, on_problem))
        complete = complete and not stop.is_set() and forwarder.give_up()
        if complete:
            forwarder.save()
            if stay:
                stop.wait()
    finally:
        delivery.close()
        if checkpoint is not None:
            checkpoint.close()
    books = delivery.stats()
    return Replayed(
        exporter=shown(spec) or exporter.name,
        complete=complete and not dry_run,
        runs=forwarder.runs,
        lost_runs=forwarder.lost_runs,
        events=forwarder.events,
        duplicates=forwarder.duplicates,
        delivered_before=missing.left_out if missing else 0,
        chosen=delivery.chosen if isinstance(delivery, _Dry) else books.seen,
        exported=books.exported,
        dropped=books.dropped,
        pending=books.pending,
        spans=getattr(exporter, "spans_sent", None) if exporter.spans else None,
        seconds=round(time.monotonic() - begun, 3),
    )


def _record_of(exporter: Exporter) -> Mapping[str, set[int]]:
    record = exporter.delivered() if isinstance(exporter, HasRecord) else None
    if record is None:
        raise ConfigurationError(
            f"exporter {exporter.name!r} keeps no record of what was delivered, so that nobody knows what is missing; "
            f"write it with the record that the application's exporter kept, such as otlp:URL?record=PATH"
        )
    return record


def _chooser(wanted: set[str] | None, missing: Missing | None) -> Chooser | None:
    if wanted is None:
        return missing

    def choose(event: StreamEvent) -> Iterable[StreamEvent]:
        if event.run_id not in wanted:
            return ()
        return (event,) if missing is None else missing(event)

    return choose


class _Dry(Delivery):
    """Only counts."""

    chosen = 0

    def start(self) -> bool:
        return True

    def deliver(self, events: Sequence[StreamEvent]) -> bool:
        self.chosen += sum(event.event_type not in self.exporter.skip for event in events)
        return True


def _paced(files: Sequence[Path], speed: float, stop: threading.Event, on_problem: OnProblem | None) -> Iterator[Any]:
    """The events of all files in the order of their times, each when its time has come."""
    events = heapq.merge(*(read([file], on_problem=on_problem) for file in files), key=lambda event: event.timestamp)
    begun, first = time.monotonic(), None
    for event in events:
        first = first or event.timestamp
        after = (event.timestamp - first).total_seconds() / speed
        if stop.wait(max(0.0, begun + after - time.monotonic())):
            return
        yield event


def _progress(files: Sequence[Path], tell: OnProgress | None) -> Callable[[Batch], None] | None:
    if tell is None:
        return None
    sizes = {os.fspath(file): file.stat().st_size for file in files}
    total = sum(sizes.values())
    read_before = 0
    at = ""

    def on_batch(batch: Batch) -> None:
        nonlocal at, read_before
        if batch.file != at:
            read_before += sizes.get(at, 0)
            at = batch.file
        compressed = batch.file.endswith(".gz")
        here = min(batch.end // COMPRESSION if compressed else batch.end, sizes.get(at, 0))
        tell(min(read_before + here, total), total)

    return on_batch
