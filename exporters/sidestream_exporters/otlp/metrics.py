"""Metrics over OTLP: the metrics of `metrics.definitions`, aggregated as in the Prometheus exporter.

Values are cumulative, or deltas since the last delivery if `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` requests
deltas. A separate thread sends them at an interval, so that the last values do not wait for the next event.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from operator import sub
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from sidestream.diagnostics import error_once, warn, warn_once
from sidestream.errors import ConfigurationError
from sidestream.metrics import definitions as table
from sidestream.metrics import store as series
from sidestream.metrics.aggregator import MetricsAggregator
from sidestream.metrics.store import Point
from sidestream.pipeline.addresses import shown_value
from sidestream.pipeline.yielding import GilYielder
from sidestream.stats import SidecarStats

from .failures import PermanentError, RetryableError
from .semantic_conventions import SCHEMA_URL
from .sender import Sender
from .settings import Endpoint

INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
POINTS = 200
"""Data points of one request, approximately; the request is serialised while holding the GIL."""
TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
HISTOGRAMS = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
CUMULATIVE = AggregationTemporality.CUMULATIVE
DELTA = AggregationTemporality.DELTA


def interval_of(given: float | None) -> float:
    """Seconds between two exports: the argument, else the standard variable (in milliseconds), else 60.

    Raises:
        ConfigurationError: The value is not a number above zero.
    """
    text = os.environ.get(INTERVAL, "").strip()
    try:
        seconds = given if given is not None else float(text or 60_000) / 1_000
    except ValueError:
        seconds = math.nan
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        wrong = f"{INTERVAL}={shown_value(text)}" if given is None else f"metrics_interval={given!r}"
        raise ConfigurationError(f"otlp: {wrong}: must be above zero")
    return min(float(seconds), threading.TIMEOUT_MAX)


def wants_delta() -> bool:
    """Whether the standard variable requests delta temporality; `lowmemory` does for synchronous instruments.

    Raises:
        ConfigurationError: The variable has a value outside the specification.
    """
    given = os.environ.get(TEMPORALITY, "").strip().lower()
    if given not in ("", "cumulative", "delta", "lowmemory"):
        raise ConfigurationError(f"otlp: {TEMPORALITY}={shown_value(given)}: must be cumulative, delta or lowmemory")
    return given in ("delta", "lowmemory")


def warn_of_exponential_histograms() -> None:
    """Warn if the standard variable requests exponential histograms, which are sent with explicit buckets."""
    given = os.environ.get(HISTOGRAMS, "").strip().lower()
    if given not in ("", "explicit_bucket_histogram"):
        warn_once(
            "histograms have explicit buckets, other aggregations are not implemented", given, variable=HISTOGRAMS
        )


class Metrics:
    """Aggregator of events, and the thread that sends the metrics."""

    def __init__(
        self, endpoint: Endpoint, resource: Resource, interval: float, get_stats: Callable[[], SidecarStats | None]
    ) -> None:
        self.endpoint = endpoint
        self._resource = resource
        self._interval = interval
        self._get_stats = get_stats
        self._lock = threading.Lock()
        self._sender: Sender | None = None
        self._stop: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failing = False
        self._delivered = Delivered() if wants_delta() else None
        warn_of_exponential_histograms()
        self.aggregator = MetricsAggregator()

    def start(self) -> None:
        """Start the sending thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sidestream-otlp-metrics", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no threads at interpreter shutdown: close() sends the values
                self._thread = None

    def _run(self) -> None:
        while True:
            try:
                self._stop.get(timeout=self._interval)
                return
            except Empty:
                self.send()

    def send(self) -> None:
        """Send all current values. After an outage the next delivery covers the missed interval."""
        url = self.endpoint.shown
        with self._lock:
            try:
                if self._sender is None:
                    self._sender = Sender(self.endpoint, "metrics")
                rejected = 0
                for data, sent in self._requests():
                    rejected += self._sender.send(data)
                    if self._delivered is not None:
                        self._delivered.note(sent)
                if rejected:
                    warn_once("OTLP endpoint rejected metrics, see its log for why", url, endpoint=url)
            except RetryableError as error:
                if not self._failing:
                    self._failing = True
                    warn("OTLP endpoint cannot take metrics now", endpoint=url, reason=error.reason)
                return
            except PermanentError as error:
                fields = {"endpoint": url, "reason": error.reason, "advice": error.advice}
                error_once("OTLP endpoint refuses metrics", url, error.reason, **fields)
            self._failing = False

    def close(self) -> None:
        """Stop the thread, send the last values, and close the connection."""
        self._stop.put(None)
        if self._thread is not None:
            self._thread.join(self.endpoint.timeout)
        self.send()
        if self._sender is not None:
            self._sender.close()

    def _requests(self) -> Iterator[tuple[MetricsData, list[_Total]]]:
        """Export requests of about `POINTS` data points, each with the totals it covers."""
        now, started = time.time_ns(), int(self.aggregator.store.started * 1e9)
        snapshot = self.aggregator.snapshot(self._get_stats())
        scope = InstrumentationScope("sidestream", version("sidestream"), SCHEMA_URL)
        yielder = GilYielder()
        metrics: list[Metric] = []
        totals: list[_Total] = []
        for name, points in snapshot.items():
            row = table.BY_NAME[name]
            delivered = self._delivered if row.kind != "gauge" else None
            metric = None
            for point in points:
                total = _Total(name, point, now)
                sent, start_ns = (point, started) if delivered is None else delivered.since(total, started)
                metric = metric or _metric(row, CUMULATIVE if delivered is None else DELTA)
                metric.data.data_points.append(_data_point(row, sent, start_ns, now))
                totals.append(total)
                yielder.maybe_yield()
                if len(totals) >= POINTS:
                    yield _request(self._resource, scope, [*metrics, metric]), totals
                    metrics, totals, metric = [], [], None
            if metric is not None:
                metrics.append(metric)
        if metrics:
            yield _request(self._resource, scope, metrics), totals


class _Total(NamedTuple):
    """Total of one time series at one moment."""

    name: str
    point: Point
    time_ns: int


class Delivered:
    """Last delivered totals of counters and histograms, from which deltas are computed."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, tuple[str, ...]], _Total] = {}

    def since(self, total: _Total, started: int) -> tuple[Point, int]:
        """Delta of `total` since its last delivery, and the time of that delivery (`started` for the first)."""
        last = self._last.get((total.name, total.point.labels))
        if last is None:
            return total.point, started
        point, before = total.point, last.point
        added = point._replace(
            value=point.value - before.value,
            counts=tuple(map(sub, point.counts, before.counts)),
            exemplars=tuple(each for each in point.exemplars if each not in before.exemplars),
        )
        return added, last.time_ns

    def note(self, totals: Iterable[_Total]) -> None:
        self._last.update(((total.name, total.point.labels), total) for total in totals)


def _request(resource: Resource, scope: InstrumentationScope, metrics: list[Metric]) -> MetricsData:
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, metrics, SCHEMA_URL)], SCHEMA_URL)])


def _metric(row: table.Metric, temporality: AggregationTemporality) -> Any:
    data: Sum | Histogram | Gauge
    if row.kind == "counter":
        data = Sum([], temporality, is_monotonic=True)
    elif row.kind == "histogram":
        data = Histogram([], temporality)
    else:
        data = Gauge([])
    return Metric(row.otlp, row.help, row.unit, data)


def _data_point(row: table.Metric, point: Point, start_ns: int, now: int) -> NumberDataPoint | HistogramDataPoint:
    labels = zip(row.labels, point.labels, strict=True)
    attributes = {_attribute(label): value for label, value in labels if value}
    exemplars = [_exemplar(each) for each in point.exemplars]
    if row.kind != "histogram":
        return NumberDataPoint(attributes, start_ns, now, float(point.value), exemplars)
    unknown: Any = None  # min and max are not aggregated, and must be absent, not zero
    return HistogramDataPoint(
        attributes,
        start_ns,
        now,
        count=sum(point.counts),
        sum=point.value,
        bucket_counts=point.counts,
        explicit_bounds=row.buckets,
        min=unknown,
        max=unknown,
        exemplars=exemplars,
    )


def _exemplar(exemplar: series.Exemplar) -> Exemplar:
    origin = exemplar.origin
    return Exemplar(
        {"sidestream.run_id": series.printable(origin.run_id)},
        float(exemplar.value),
        int(origin.timestamp * 1e9),
        span_id=int(origin.span_id, 16) if origin.span_id else None,
        trace_id=int(origin.trace_id, 16) if origin.trace_id else None,
    )


def _attribute(label: str) -> str:
    """OTLP attribute name of a Prometheus label."""
    if label.startswith("gen_ai_"):
        return "gen_ai." + label.removeprefix("gen_ai_").replace("_", ".")
    return "error.type" if label == "error_type" else label
