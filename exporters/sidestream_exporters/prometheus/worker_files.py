"""Servers of several processes: each writes its numbers to `PROMETHEUS_MULTIPROC_DIR`, any of them can serve the sum.

The files are prometheus_client's own, so the numbers also appear in the page of an application that serves its metrics
by `MultiProcessCollector`, next to its own. They have no exemplars.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from glob import glob
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from sidestream.diagnostics import warn_once
from sidestream.errors import ConfigurationError
from sidestream.metrics.definitions import Metric
from sidestream.metrics.store import Point
from sidestream.pipeline.yielding import GilYielder

from . import compat
from .text_format import bounds

EVERY = 0.5
"""Seconds between two writes: what a process counts that is killed may lack as much."""

_MODES = {
    "sidestream_runs_in_progress": "livesum",
    "sidestream_queue_events": "livesum",
    "sidestream_start_time_seconds": "min",  # of those that are gone as well: their counts are still in the sums
}
"""How gauges of several processes are put together; of those not named, the highest of the living processes counts."""

_writing = threading.Lock()
"""Held while prometheus_client's own lock may be, so that no fork takes that along locked: an application counts by the
same lock."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_writing.acquire, after_in_parent=_writing.release, after_in_child=_writing.release)


class ProcessFiles:
    """This process's share of the folder `path`.

    Raises:
        ConfigurationError: prometheus_client was imported before the variable was set, or there can be no such folder.
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
        """Write every half second from now on."""
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
        except Exception as error:  # the folder may come back
            reason = getattr(error, "strerror", None) or type(error).__qualname__
            warn_once("metrics cannot be shared between processes", reason, folder=self.path, reason=reason)

    def sync(self) -> None:
        """Write what has changed since the last time."""
        with self._syncing:  # before the look: an older one that is written later would take counters back
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
                elif new != old:  # added, for there may be something already: of a process that had the same id
                    cell.inc(new - old)
                before[place] = new

    def registry(self) -> CollectorRegistry:
        """All processes together, of which those that are gone have no gauges any more."""
        for pid in {name.rpartition("_")[2].removesuffix(".db") for name in glob(f"{self.path}/gauge_live*.db")}:
            if not _is_alive(pid):
                with suppress(OSError):  # another worker is at it too
                    mark_process_dead(pid, self.path)  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        MultiProcessCollector(registry, self.path)  # type: ignore[no-untyped-call]
        return registry


def _values(metric: Metric, labels: tuple[str, ...]) -> list[Any]:
    """What prometheus_client keeps for a time series, as its own metrics would make it."""
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
        return True  # cannot be asked without harm
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError):
        return True  # somebody else's
    return True
