"""Store of aggregated metric values by metric and label values, with bounded memory for any labels.

Counting costs a look-up and an addition. Publishers take snapshots, from any thread.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import inf
from operator import add
from typing import TYPE_CHECKING, Any, NamedTuple

from sidestream.pipeline.yielding import GilYielder

from .definitions import BY_NAME, METRICS, OTHER, Metric

if TYPE_CHECKING:
    from .native import NativeBuckets

MAX_VALUES = 100
"""Default maximum number of distinct values of one label."""
SERIES_PER_VALUE = 10
"""Maximum number of time series of one metric, as a multiple of the maximum number of label values."""
MAX_LENGTH = 120
"""Maximum length of a label value in characters."""
COMBINED = "*"
"""Key in `overflow` for an excess of label combinations."""

_DOMAINS = {
    "gen_ai_agent_name": "agent",
    "parent_agent": "agent",
    "gen_ai_tool_name": "tool",
    "gen_ai_request_model": "model",
}
"""Labels with a common cap, because their values name the same things, and must become `other` in all metrics alike."""

_FIXED = frozenset({"gen_ai_operation_name", "gen_ai_token_type", "outcome", "type", "kind"})
"""Labels with few values, which are preserved if there are too many combinations."""


class Origin(NamedTuple):
    """Trace and run of an observation."""

    trace_id: str
    """Trace id in hex; empty, like `span_id`, if the trace is unknown or not sampled."""
    span_id: str
    run_id: str
    """Run id; empty if too long for an exemplar."""
    timestamp: float
    """Unix time in seconds."""


class Exemplar(NamedTuple):
    """Sample observation with its origin."""

    value: float
    origin: Origin


class Point(NamedTuple):
    """Value of one time series at one moment."""

    labels: tuple[str, ...]
    """Label values, in the order of the metric's `labels`."""
    value: float
    """Value of a counter or gauge; sum of a histogram."""
    counts: tuple[int, ...] = ()
    """Observations in each bucket of a histogram, not cumulative; the last bucket is unbounded."""
    exemplars: tuple[Exemplar, ...] = ()
    """Last exemplar of a counter, or of each bucket of a histogram."""
    created: float = 0.0
    """Unix time of the start of the time series; 0 if unknown."""
    native: NativeBuckets | None = None
    """Native buckets of a histogram, if the store counts them."""


class Series:
    """Mutable time series. `value` is the sum for a histogram."""

    __slots__ = ("buckets", "counts", "created", "exemplars", "native", "value")

    def __init__(self, metric: Metric) -> None:
        self.value: float = 0
        self.buckets = metric.buckets
        self.created = time.time()
        self.counts = [0] * (len(metric.buckets) + 1) if metric.kind == "histogram" else []
        self.exemplars: dict[int, tuple[float, Origin]] = {}
        """Fields of an `Exemplar` by bucket; a plain tuple is created in half the time."""
        self.native: NativeBuckets | None = None

    def dump(self) -> list[Any]:
        """State as JSON data."""
        return [self.value, self.counts, self.created, *([self.native.dump()] if self.native else [])]


class Store:
    """All time series fed by runs. Hold `lock` for changes; `snapshot` acquires the lock itself.

    Args:
        max_values: Maximum number of distinct values of one label; further values become `other`. One metric has at
            most ten times as many time series, plus those for the excess.
    """

    def __init__(self, max_values: int = MAX_VALUES) -> None:
        self.lock = threading.Lock()
        self.started = time.time()
        """Unix time of the start of counting."""
        self.overflow: dict[str, int] = {}
        """Number of observations counted under `other`, by label (`*`: combinations of labels)."""
        self._max_values = max_values
        self._series: dict[str, dict[tuple[str, ...], Series]] = {
            metric.name: {} for metric in METRICS if metric.source == "runs"
        }
        self._values: dict[str, set[str]] = {}

    def add(self, name: str, labels: tuple[str, ...], amount: float, origin: Origin | None = None) -> None:
        """Add to a counter. Amounts that are NaN, infinite or negative are ignored."""
        if 0 <= amount < inf:
            known = self._series[name]
            series = known.get(labels) or self._admit(BY_NAME[name], known, labels)
            series.value += amount
            if origin is not None:
                series.exemplars[0] = (amount, origin)

    def initialize(self, name: str, labels: tuple[str, ...]) -> None:
        """Initialize a counter with 0 before its first increment, so that `rate()` sees the first increment.

        (https://prometheus.io/docs/practices/instrumentation/#avoid-missing-metrics) Initialized series may use at most
        half of the available space, because the increment may never happen.
        """
        known = self._series[name]
        if labels not in known:
            metric, most = BY_NAME[name], self._max_values // 2
            labels = tuple(map(printable, labels))
            if len(known) < most * SERIES_PER_VALUE and all(
                self._takes(label, value, most) for label, value in zip(metric.labels, labels, strict=True)
            ):
                known.setdefault(labels, Series(metric))

    def observe(self, name: str, labels: tuple[str, ...], value: float, origin: Origin | None = None) -> Series | None:
        """Observe a value for a histogram, and return its time series.

        Values that are NaN, infinite or negative are ignored; then the result is None.
        """
        if 0 <= value < inf:
            known = self._series[name]
            series = known.get(labels) or self._admit(BY_NAME[name], known, labels)
            bucket = bisect_left(series.buckets, value)
            series.value += value
            series.counts[bucket] += 1
            if origin is not None:
                series.exemplars[bucket] = (value, origin)
            return series
        return None

    def bounds(self, name: str) -> tuple[float, ...]:
        """Bounds of the buckets in which callers of `merge` count."""
        return BY_NAME[name].buckets

    def merge(self, name: str, labels: tuple[str, ...], total: float, counts: Sequence[int]) -> Series:
        """Merge observations, counted by bucket, into a histogram, and return its time series.

        Args:
            name: Name of the histogram.
            labels: Label values.
            total: Sum of the observations.
            counts: Number of observations in each of the buckets of `bounds`, and above the last bound.
        """
        series = self.series(name, labels)
        series.value += total
        series.counts = list(map(add, series.counts, counts))
        return series

    def series(self, name: str, labels: tuple[str, ...]) -> Series:
        """Time series for `labels`, or the one for their excess."""
        known = self._series[name]
        return known.get(labels) or self._admit(BY_NAME[name], known, labels)

    def snapshot(self) -> dict[str, list[Point]]:
        """Points of all time series by metric, from the same moment."""
        found: dict[str, list[Point]] = {}
        with self.lock:  # blocks only threads that count, never an agent
            yielder = GilYielder()
            for name, known in self._series.items():
                found[name] = []
                for labels, one in known.items():
                    exemplars = tuple(map(Exemplar._make, one.exemplars.values()))
                    native = one.native and one.native.copy()
                    found[name].append(Point(labels, one.value, tuple(one.counts), exemplars, one.created, native))
                    yielder.maybe_yield()
        return found

    def dump_state(self) -> dict[str, Any]:
        """Counts as JSON data, without gauges and exemplars."""
        with self.lock:
            counted = {
                name: [[labels, *one.dump()] for labels, one in known.items()]
                for name, known in self._series.items()
                if BY_NAME[name].kind != "gauge"
            }
            return {"series": counted, "overflow": dict(self.overflow), "started": self.started}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore the state of `dump_state`. Entries that do not match the table of metrics are ignored."""
        with self.lock:
            for name, remembered in state["series"].items():
                metric = BY_NAME.get(name)
                for labels, value, counts, *rest in remembered:
                    if metric is not None and len(labels) == len(metric.labels):
                        one = self.series(name, tuple(labels))
                        if len(counts) == len(one.counts):
                            one.created = rest[0] if rest else self.started
                            self._restore(one, value, counts, rest[1] if rest[1:] else None)
            self.overflow = dict(state["overflow"])
            self.started = state.get("started", self.started)

    def _restore(self, series: Series, value: float, counts: list[int], native: Sequence[Any] | None) -> None:
        series.value, series.counts = value, counts

    def _admit(self, metric: Metric, known: dict[tuple[str, ...], Series], given: tuple[str, ...]) -> Series:
        labels = tuple(map(self._capped, metric.labels, given))
        if labels not in known and len(known) >= self._max_values * SERIES_PER_VALUE:
            self.overflow[COMBINED] = self.overflow.get(COMBINED, 0) + 1
            labels = tuple(
                value if label in _FIXED else OTHER for label, value in zip(metric.labels, labels, strict=True)
            )
        found = known.get(labels)
        if found is None:
            found = known[labels] = Series(metric)
        return found

    def _capped(self, label: str, value: str) -> str:
        value = printable(value)
        if self._takes(label, value, self._max_values):
            return value
        self.overflow[label] = self.overflow.get(label, 0) + 1
        return OTHER

    def _takes(self, label: str, value: str, most: int) -> bool:
        """Whether `value` is a value of `label`. A new value is added if there are fewer than `most`."""
        values = self._values.setdefault(_DOMAINS.get(label, label), set())
        if value in values or value in ("", OTHER):
            return True
        if len(values) < most:
            values.add(value)
            return True
        return False


def printable(value: str) -> str:
    """Valid label value: truncated to the maximum length, with escapes for characters that UTF-8 cannot encode."""
    if len(value) > MAX_LENGTH:
        value = value[: MAX_LENGTH - 1] + "…"
    return value.encode("utf-8", "backslashreplace").decode()
