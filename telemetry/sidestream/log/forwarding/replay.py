"""Replay of a log into an exporter, with original times and ids: events missed in an outage, or all to a new target."""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sidestream.errors import ConfigurationError
from sidestream.events import StreamEvent
from sidestream.log.files import Paths, files_of
from sidestream.log.reader import OnProblem, Problem, read
from sidestream.log.runs.filters import Filter
from sidestream.log.runs.iteration import runs
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.registry import shown

from .checkpoint import Checkpoint
from .delivery import Delivery
from .follow import Batch, Follower
from .forwarder import Chooser, Forwarder, State
from .missing import Missing, record_of
from .own_log import refuse_own_log

PATIENCE = 60.0
"""Seconds to wait for an unavailable exporter."""
COMPRESSION = 10
"""Approximate compression ratio of gzipped logs."""

OnProgress = Callable[[int, int], None]
"""Called with the bytes read so far and the total bytes of the log; compressed files count with their size on disk."""


class Replayed(msgspec.Struct, kw_only=True):
    """Result of a replay. `chosen == exported + sum(dropped.values()) + pending`, except in a dry run."""

    exporter: str
    """Name and target of the exporter. Options are left out, because they may be secret."""
    complete: bool
    """Whether all selected events were handed over."""
    runs: int
    """Number of runs read."""
    runs_sent: int
    """Number of runs with at least one event handed over; in a dry run, that would be."""
    lost_runs: int
    """Number of runs without an end in the log whose writer is gone. They are exported with outcome `lost`."""
    events: int
    """Number of events read, without duplicates."""
    duplicates: int
    """Number of duplicate lines."""
    delivered_before: int
    """Number of events left out because the exporter's record lists them as delivered."""
    chosen: int
    """Number of selected events, without event types that the exporter skips."""
    exported: int
    dropped: dict[str, int]
    """Dropped events by reason."""
    pending: int
    """Number of events not exported because the exporter stayed unavailable."""
    spans: int | None
    """Number of accepted spans; None if the exporter does not count spans."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """Selection and options of a replay. Raises `ConfigurationError` for an invalid combination."""

    where: Filter | None = None
    """Filter of the runs; None for all."""
    only_missing: bool = False
    """Leave out events that the exporter's record lists as delivered."""
    speed: float | None = None
    """Speed relative to the original: 1 replays in real time, 10 ten times as fast; None as fast as possible."""
    dry_run: bool = False
    """Read and select, but export nothing."""
    stay: bool = False
    """Keep the exporter open after the replay until `stop` is set: for a pull-based exporter."""
    resume: str | os.PathLike[str] | None = None
    """Checkpoint file from which a later replay resumes; None starts at the beginning."""
    patience: float = PATIENCE
    """Seconds to wait for an unavailable exporter."""
    backoff: tuple[float, float] | None = None
    """Seconds of the first and the longest pause between retries; None for the default of the pipeline."""

    def __post_init__(self) -> None:
        if self.speed is not None and not self.speed > 0:
            raise ConfigurationError(f"speed {self.speed!r}: must be above 0")
        if self.speed is not None and self.resume is not None:
            raise ConfigurationError("a replay at a given speed cannot be resumed: leave out one of the two")


EVERYTHING = ReplayPlan()


def replay(
    paths: Paths,
    exporter: Exporter,
    plan: ReplayPlan = EVERYTHING,
    *,
    spec: str = "",
    stop: threading.Event | None = None,
    on_progress: OnProgress | None = None,
    on_problem: OnProblem | None = None,
    on_wait: Callable[[], None] | None = None,
) -> Replayed:
    """Export a log again. Spans keep their original ids, so that a repeated replay adds no duplicates.

    Args:
        paths: folders, files or globs.
        exporter: the target. Started, flushed and closed here.
        plan: selection and options.
        spec: specification of the exporter in settings, for the checkpoint.
        stop: ends the replay when another thread or a signal handler sets it.
        on_progress: see `OnProgress`.
        on_problem: called for each unreadable line.
        on_wait: called while the exporter is unavailable.

    Raises `ConfigurationError` for an invalid plan or target, `UnreadableLogError` for a log that cannot be read.
    """
    begun = time.monotonic()
    stop = stop or threading.Event()
    paths = paths if isinstance(paths, str | os.PathLike) else list(paths)
    files = files_of(paths)
    refuse_own_log(exporter, paths)
    missing = Missing(record_of(exporter)) if plan.only_missing else None
    wanted = None if plan.where is None else {run.run_id for run in runs(paths, plan.where, on_problem=_ignore_problem)}
    delivery = (
        _DryDelivery(exporter, stop=stop)
        if plan.dry_run
        else Delivery(exporter, stop=stop, patience=plan.patience, backoff=plan.backoff, on_wait=on_wait)
    )
    checkpoint = None if plan.resume is None or plan.dry_run else Checkpoint(plan.resume, State)
    follower = Follower(paths, batch=exporter.batch, on_problem=on_problem)
    forwarder = Forwarder(follower, delivery, spec=spec, checkpoint=checkpoint, choose=_chooser(wanted, missing))
    try:
        complete = _forward_all(forwarder, files, plan.speed, stop, on_progress, on_problem)
        if complete and plan.stay:
            stop.wait()
    finally:
        delivery.close()
        if checkpoint is not None:
            checkpoint.close()
    return Replayed(
        exporter=shown(spec) or exporter.name,
        complete=complete and not plan.dry_run,
        delivered_before=missing.left_out if missing else 0,
        seconds=round(time.monotonic() - begun, 3),
        **_counts(forwarder, delivery),
    )


def _ignore_problem(problem: Problem) -> None:
    """No-op `on_problem`: the same problems are reported when the events are read."""


def _forward_all(
    forwarder: Forwarder,
    files: Sequence[Path],
    speed: float | None,
    stop: threading.Event,
    on_progress: OnProgress | None,
    on_problem: OnProblem | None,
) -> bool:
    """Forward the log from the checkpoint on. False if the replay was stopped or the exporter stayed unavailable."""
    forwarder.load()
    if not (forwarder.resume() and forwarder.delivery.start()):
        return False
    if speed is None:
        complete = forwarder.forward(on_batch=_progress(files, on_progress))
    else:
        paced = _paced(files, speed, stop, on_problem)
        complete = all(forwarder.take([event]) for event in paced) and not stop.is_set()
    if not complete or not forwarder.end_lost_runs():
        return False
    forwarder.save()
    return True


def _counts(forwarder: Forwarder, delivery: Delivery) -> dict[str, Any]:
    stats, exporter = delivery.stats(), delivery.exporter
    return {
        "runs": forwarder.runs,
        "runs_sent": forwarder.runs_sent,
        "lost_runs": forwarder.lost_runs,
        "events": forwarder.events,
        "duplicates": forwarder.duplicates,
        "chosen": delivery.chosen if isinstance(delivery, _DryDelivery) else stats.seen,
        "exported": stats.exported,
        "dropped": stats.dropped,
        "pending": stats.pending,
        "spans": getattr(exporter, "spans_sent", None) if exporter.spans else None,
    }


def _chooser(wanted: set[str] | None, missing: Missing | None) -> Chooser | None:
    if wanted is None:
        return missing

    def choose(event: StreamEvent) -> Iterable[StreamEvent]:
        if event.run_id not in wanted:
            return ()
        return (event,) if missing is None else missing(event)

    return choose


class _DryDelivery(Delivery):
    """Delivery that only counts."""

    chosen = 0

    def start(self) -> bool:
        return True

    def deliver(self, events: Sequence[StreamEvent]) -> bool:
        self.chosen += sum(event.event_type not in self.exporter.skip for event in events)
        return True


def _paced(files: Sequence[Path], speed: float, stop: threading.Event, on_problem: OnProblem | None) -> Iterator[Any]:
    """Events of all files in order of time, each at its original pace divided by `speed`."""
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
