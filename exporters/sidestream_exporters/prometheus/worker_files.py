"""Metric files of multi-process servers: each process writes to `PROMETHEUS_MULTIPROC_DIR`, any can serve the sum.

The files have prometheus_client's own format, so an application's `MultiProcessCollector` serves the metrics too. The
format has no exemplars.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from glob import glob
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as ClientMetric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from sidestream.diagnostics import warn_once
from sidestream.errors import ConfigurationError
from sidestream.metrics.definitions import Metric
from sidestream.metrics.store import Point
from sidestream.pipeline.yielding import GilYielder

from . import compat
from .text_format import bounds

EVERY = 0.5
"""Seconds between two writes; a killed process loses at most the counts of this time."""

_MODES = {
    "sidestream_runs_in_progress": "livesum",
    "sidestream_queue_events": "livesum",
    "sidestream_start_time_seconds": "min",  # dead processes included, since the sums include their counts
}
"""Aggregation of gauges over processes (`multiprocess_mode`); the default is `livemax`."""

_writing = threading.Lock()
"""Lock held while prometheus_client's own lock may be, and during a fork: a child with a copy of the library's lock in
held state would deadlock in the application's own metrics."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_writing.acquire, after_in_parent=_writing.release, after_in_child=_writing.release)


class ProcessFiles:
    """Metric files of this process in the folder `path`.

    Raises:
        ConfigurationError: prometheus_client was imported before the variable was set, or the folder cannot be created.
    """

    def __init__(
        self, path: str, snapshot: Callable[[], Mapping[str, Sequence[Point]]], metrics: Sequence[Metric]
    ) -> None:
        if not compat.keeps_files():
            raise ConfigurationError(
                f"prometheus: PROMETHEUS_MULTIPROC_DIR={path!r} was set after prometheus_client had been imported: "
                f"set it before the program starts"
            )
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"prometheus: PROMETHEUS_MULTIPROC_DIR={path!r} cannot be made: {error.strerror}"
            ) from None
        self.path = path
        self._snapshot = snapshot
        self._metrics = metrics
        self._written: dict[tuple[str, tuple[str, ...]], tuple[list[Any], list[float]]] = {}
        self._syncing = threading.Lock()
        self._stop = threading.Event()

    def start(self) -> None:
        """Start the thread that writes every `EVERY` seconds."""
        threading.Thread(target=self._work, name="sidestream-metrics-files", daemon=True).start()

    def _work(self) -> None:
        while not self._stop.wait(EVERY):
            self._try_sync()

    def stop(self) -> None:
        self._stop.set()
        self._try_sync()

    def _try_sync(self) -> None:
        try:
            self.sync()
        except Exception as error:  # the next write tries again: the folder may come back
            reason = getattr(error, "strerror", None) or type(error).__qualname__
            warn_once("metrics cannot be shared between processes", reason, folder=self.path, reason=reason)

    def sync(self) -> None:
        """Write the values that changed since the last write."""
        with self._syncing:  # around the snapshot too: an older snapshot written later would decrease counters
            snapshot, yielder = self._snapshot(), GilYielder()
            for metric in self._metrics:
                for point in snapshot.get(metric.name, ()):
                    self._write(metric, point)
                    yielder.maybe_yield()

    def _write(self, metric: Metric, point: Point) -> None:
        now = [point.value, *point.counts]
        key = (metric.name, point.labels)
        with _writing:
            if key not in self._written:
                self._written[key] = (_values(metric, point.labels), [0.0] * len(now))
            cells, before = self._written[key]
            for place, (cell, old, new) in enumerate(zip(cells, before, now, strict=True)):
                if metric.kind == "gauge":
                    cell.set(new)
                elif new != old:  # inc, not set: the file may hold counts of an earlier process with the same id
                    cell.inc(new - old)
                before[place] = new

    def registry(self) -> CollectorRegistry:
        """Registry of all processes' metrics. Live gauges of dead processes are removed first."""
        for pid in {name.rpartition("_")[2].removesuffix(".db") for name in glob(f"{self.path}/gauge_live*.db")}:
            if not _is_alive(pid):
                with suppress(OSError):  # another worker may remove the same file
                    mark_process_dead(pid, self.path)  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        registry.register(_FilesCollector(self.path))
        return registry


class _FilesCollector(Collector):
    """`MultiProcessCollector` over the files that are not empty.

    prometheus_client fails on a file without its header: a process is just creating the file, or was killed then, and
    each later scrape would fail.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def collect(self) -> Iterable[ClientMetric]:
        return MultiProcessCollector.merge(  # type: ignore[no-untyped-call, no-any-return]
            [file for file in glob(f"{self._path}/*.db") if _is_written(file)]
        )


def _is_written(file: str) -> bool:
    try:
        return os.path.getsize(file) > 0
    except OSError:
        return False


def _values(metric: Metric, labels: tuple[str, ...]) -> list[Any]:
    """Value cells of one time series, created as prometheus_client's own metrics create theirs."""
    name = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name

    def value(sample: str, names: Sequence[str] = metric.labels, texts: Sequence[str] = labels, **mode: str) -> Any:
        return compat.value_cell(metric.kind, name, sample, names, texts, metric.help, **mode)

    match metric.kind:
        case "counter":
            return [value(metric.name)]
        case "gauge":
            return [value(name, multiprocess_mode=_MODES.get(name, "livemax"))]
        case "histogram":
            buckets = [value(f"{name}_bucket", (*metric.labels, "le"), (*labels, bound)) for bound in bounds(metric)]
            return [value(f"{name}_sum"), *buckets]


def _is_alive(pid: str) -> bool:
    if os.name != "posix":
        return True  # os.kill on Windows would end the process
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError):
        return True  # the process belongs to another user
    return True
