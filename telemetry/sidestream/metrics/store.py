"""Aggregated values of metrics: plain numbers by metric and label values, within bounds whatever the labels are.

Counting costs a look-up and an addition; whoever publishes the numbers takes a snapshot, from any thread.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple

from sidestream.pipeline.yielding import GilYielder

from .definitions import BY_NAME, METRICS, OTHER, Metric

MAX_VALUES = 100
"""Distinct values of one label, unless said otherwise."""
SERIES_PER_VALUE = 10
"""Time series of one metric, as a multiple of the values of one label: combinations multiply."""
MAX_LENGTH = 120
"""Characters of a label's value."""
COMBINED = "*"
"""Stands for all labels together, where it was their combinations that were too many."""

_DOMAINS = {
    "gen_ai_agent_name": "agent",
    "parent_agent": "agent",
    "gen_ai_tool_name": "tool",
    "gen_ai_request_model": "model",
}
"""Labels that name the same things share a cap, so that the same ones become `other` in all metrics."""

_FIXED = frozenset({"gen_ai_operation_name", "gen_ai_token_type", "outcome", "type", "kind"})
"""Labels with a handful of values, which stay apart where combinations are too many."""


class Origin(NamedTuple):
    """Where to look at what was counted."""

    trace_id: str
    """In hex, as `span_id`; both are empty where the trace is not known, or not kept."""
    span_id: str
    run_id: str
    """Empty where it is longer than an exemplar can hold."""
    timestamp: float
    """Unix time, seconds."""


class Exemplar(NamedTuple):
    """One observation that stands for others."""

    value: float
    origin: Origin


class Point(NamedTuple):
    """One time series at one moment."""

    labels: tuple[str, ...]
    """Values, in the order of the metric's `labels`."""
    value: float
    """Of a counter or gauge; the sum of a histogram."""
    counts: tuple[int, ...] = ()
    """Of a histogram: observations in each bucket, not cumulative; the last is beyond the highest bound."""
    exemplars: tuple[Exemplar, ...] = ()
    """Of a counter the last one, of a histogram the last one of each bucket that has any."""
    created: float = 0.0
    """Unix time at which the time series began; 0 where it is not known."""


class Series:
    """One time series, as it grows. For a histogram, `value` is the sum."""

    __slots__ = ("buckets", "counts", "created", "exemplars", "value")

    def __init__(self, metric: Metric) -> None:
        self.value: float = 0
        self.buckets = metric.buckets
        self.created = time.time()
        self.counts = [0] * (len(metric.buckets) + 1) if metric.kind == "histogram" else []
        self.exemplars: dict[int, tuple[float, Origin]] = {}
        """By bucket, each what an `Exemplar` is made of: a plain tuple takes half the time."""


class Store:
    """All time series that are fed by runs. Hold `lock` while changing it; `snapshot` takes it itself.

    Args:
        max_values: Distinct values of one label; further ones become `other`. Of one metric there are at most ten times
            as many time series, and some that hold what exceeds them.
    """

    def __init__(self, max_values: int = MAX_VALUES) -> None:
        self.lock = threading.Lock()
        self.started = time.time()
        """Unix time from which on it counts."""
        self.overflow: dict[str, int] = {}
        """Observations under `other`, by label (`*`: combinations of labels)."""
        self._max_values = max_values
        self._series: dict[str, dict[tuple[str, ...], Series]] = {
            metric.name: {} for metric in METRICS if metric.source == "runs"
        }
        self._values: dict[str, set[str]] = {}

    def add(self, name: str, labels: tuple[str, ...], amount: float, origin: Origin | None = None) -> None:
        """Add to a counter. An amount that is no number, infinite or negative is left out."""
        if 0 <= amount < inf:
            known = self._series[name]
            series = known.get(labels) or self._admit(BY_NAME[name], known, labels)
            series.value += amount
            if origin is not None:
                series.exemplars[0] = (amount, origin)

    def initialize(self, name: str, labels: tuple[str, ...]) -> None:
        """Have a counter stand at 0 before it is first added to: a rate sees a time series go on, and not begin.

        (https://prometheus.io/docs/practices/instrumentation/#avoid-missing-metrics) What is expected takes half of the
        room at most, and is left out beyond: it may never come.
        """
        known = self._series[name]
        if labels not in known:
            metric, most = BY_NAME[name], self._max_values // 2
            labels = tuple(map(printable, labels))
            if len(known) < most * SERIES_PER_VALUE and all(
                self._takes(label, value, most) for label, value in zip(metric.labels, labels, strict=True)
            ):
                known.setdefault(labels, Series(metric))

    def observe(self, name: str, labels: tuple[str, ...], value: float, origin: Origin | None = None) -> None:
        """Observe a value for a histogram. One that is no number, infinite or negative is left out."""
        if 0 <= value < inf:
            known = self._series[name]
            series = known.get(labels) or self._admit(BY_NAME[name], known, labels)
            bucket = bisect_left(series.buckets, value)
            series.value += value
            series.counts[bucket] += 1
            if origin is not None:
                series.exemplars[bucket] = (value, origin)

    def series(self, name: str, labels: tuple[str, ...]) -> Series:
        """The time series of `labels`, or the one that they are counted under."""
        known = self._series[name]
        return known.get(labels) or self._admit(BY_NAME[name], known, labels)

    def snapshot(self) -> dict[str, list[Point]]:
        """Every time series by metric, all as of one moment."""
        found: dict[str, list[Point]] = {}
        with self.lock:  # which holds up whoever counts, and no agent
            yielder = GilYielder()
            for name, known in self._series.items():
                found[name] = []
                for labels, one in known.items():
                    exemplars = tuple(map(Exemplar._make, one.exemplars.values()))
                    found[name].append(Point(labels, one.value, tuple(one.counts), exemplars, one.created))
                    yielder.maybe_yield()
        return found

    def dump_state(self) -> dict[str, Any]:
        """What has been counted, as JSON can hold it; not what is in progress, nor the exemplars."""
        with self.lock:
            counted = {
                name: [[labels, one.value, one.counts, one.created] for labels, one in known.items()]
                for name, known in self._series.items()
                if BY_NAME[name].kind != "gauge"
            }
            return {"series": counted, "overflow": dict(self.overflow), "started": self.started}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `dump_state` gave. What no longer fits the table of metrics is left out."""
        with self.lock:
            for name, remembered in state["series"].items():
                metric = BY_NAME.get(name)
                for labels, value, counts, *created in remembered:
                    if metric is not None and len(labels) == len(metric.labels):
                        one = self.series(name, tuple(labels))
                        if len(counts) == len(one.counts):
                            one.value, one.counts = value, counts
                            one.created = created[0] if created else self.started
            self.overflow = dict(state["overflow"])
            self.started = state.get("started", self.started)

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
        """Whether `value` is one of the values of `label`; it becomes one where there are fewer than `most`."""
        values = self._values.setdefault(_DOMAINS.get(label, label), set())
        if value in values or value in ("", OTHER):
            return True
        if len(values) < most:
            values.add(value)
            return True
        return False


def printable(value: str) -> str:
    """`value` as a label can hold it: of bounded length, and with an escape for what UTF-8 cannot hold."""
    if len(value) > MAX_LENGTH:
        value = value[: MAX_LENGTH - 1] + "…"
    return value.encode("utf-8", "backslashreplace").decode()
