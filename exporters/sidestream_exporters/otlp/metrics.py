"""Metrics by OTLP: the table of metrics (`metrics.definitions`), counted as the Prometheus exporter counts it.

Values are cumulative. They are sent from a thread of their own, at an interval and at the end, for what is counted last
must not wait for the next event.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from queue import Empty, SimpleQueue
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    Metric,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.sdk.resources import Resource

from sidestream.diagnostics import error_once, warn, warn_once
from sidestream.errors import ConfigurationError
from sidestream.metrics import definitions as table
from sidestream.metrics import store as series
from sidestream.metrics.aggregator import MetricsAggregator
from sidestream.metrics.store import Point
from sidestream.pipeline.yielding import GilYielder
from sidestream.stats import SidecarStats

from .encode import put_attributes
from .sender import Away, Refused, Sender, sender_to
from .settings import Endpoint

INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
POINTS = 200
"""Data points of one request, about: what is serialised at once."""
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


def interval_of(given: float | None) -> float:
    """Seconds between two exports: the argument, else the standard variable (in milliseconds), else 60."""
    text = os.environ.get(INTERVAL, "").strip()
    try:
        seconds = given if given is not None else float(text or 60_000) / 1_000
    except ValueError:
        seconds = math.nan
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        wrong = f"{INTERVAL}={text!r}" if given is None else f"metrics_interval={given!r}"
        raise ConfigurationError(f"otlp: {wrong}: must be above zero")
    return min(float(seconds), threading.TIMEOUT_MAX)


class Metrics:
    """Counts events, and sends what they come to."""

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
        self.aggregator = MetricsAggregator()

    def start(self) -> None:
        """Begin to send. Does nothing the second time."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sidestream-otlp-metrics", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is going down: what is counted is sent on close
                self._thread = None

    def _run(self) -> None:
        while True:
            try:
                self._stop.get(timeout=self._interval)
                return
            except Empty:
                self.send()

    def send(self) -> None:
        """Send every value as it is now. An outage costs nothing but time: values are cumulative."""
        url = self.endpoint.url
        with self._lock:
            try:
                if self._sender is None:
                    self._sender = sender_to(self.endpoint, "metrics")
                rejected = [self._sender.send(body) for body in self._bodies()]
                if any(rejected):
                    warn_once("OTLP endpoint rejected metrics, see its log for why", url, endpoint=url)
            except Away as error:
                if not self._failing:
                    self._failing = True
                    warn("OTLP endpoint cannot take metrics now", endpoint=url, reason=error.reason)
                return
            except Refused as error:
                told = {"endpoint": url, "reason": error.reason, "advice": error.advice}
                error_once("OTLP endpoint refuses metrics", url, error.reason, **told)
            self._failing = False

    def close(self) -> None:
        """Send the last values, and no more."""
        self._stop.put(None)
        if self._thread is not None:
            self._thread.join(self.endpoint.timeout)
        self.send()
        if self._sender is not None:
            self._sender.close()

    def _bodies(self) -> Iterator[bytes]:
        snapshot = self.aggregator.snapshot(self._get_stats())
        times = {"start_time_unix_nano": int(self.aggregator.store.started * 1e9), "time_unix_nano": time.time_ns()}
        resource = ResourceMessage()
        put_attributes(resource.attributes, self._resource.attributes)
        scope = InstrumentationScope(name="sidestream", version=version("sidestream"))
        yielder = GilYielder()
        metrics: list[Metric] = []
        size = 0
        for name, points in snapshot.items():
            for first in range(0, len(points), POINTS):
                metric = _metric(table.BY_NAME[name])
                for point in points[first : first + POINTS]:
                    _add(metric, table.BY_NAME[name], point, times)
                    yielder.maybe_yield()
                metrics.append(metric)
                size += len(points[first : first + POINTS])
                if size >= POINTS:
                    yield _request(resource, scope, metrics)
                    metrics, size = [], 0
        if metrics:
            yield _request(resource, scope, metrics)


def _request(resource: Any, scope: Any, metrics: list[Any]) -> bytes:
    scoped = ScopeMetrics(scope=scope, metrics=metrics)
    of_resource = ResourceMetrics(resource=resource, scope_metrics=[scoped])
    return bytes(ExportMetricsServiceRequest(resource_metrics=[of_resource]).SerializeToString())


def _metric(row: table.Metric) -> Any:
    metric = Metric(name=row.otlp, description=row.help, unit=row.unit)
    if row.kind == "counter":
        metric.sum.is_monotonic = True
        metric.sum.aggregation_temporality = CUMULATIVE
    elif row.kind == "histogram":
        metric.histogram.aggregation_temporality = CUMULATIVE
    return metric


def _add(metric: Any, row: table.Metric, point: Point, times: dict[str, int]) -> None:
    facts: dict[str, Any] = {
        "exemplars": [_exemplar(each) for each in point.exemplars],
        **times,
    }
    if row.kind == "histogram":
        into = metric.histogram.data_points.add(
            count=sum(point.counts),
            sum=point.value,
            bucket_counts=point.counts,
            explicit_bounds=row.buckets,
            **facts,
        )
    elif row.kind == "counter":
        into = metric.sum.data_points.add(as_double=point.value, **facts)
    else:
        into = metric.gauge.data_points.add(as_double=point.value, **facts)
    labels = zip(row.labels, point.labels, strict=True)
    put_attributes(into.attributes, {_attribute(label): value for label, value in labels if value})


def _exemplar(exemplar: series.Exemplar) -> Any:
    origin = exemplar.origin
    message = Exemplar(
        as_double=exemplar.value,
        time_unix_nano=int(origin.timestamp * 1e9),
        trace_id=bytes.fromhex(origin.trace_id),
        span_id=bytes.fromhex(origin.span_id),
    )
    put_attributes(message.filtered_attributes, {"sidestream.run_id": series.printable(origin.run_id)})
    return message


def _attribute(label: str) -> str:
    """A label of Prometheus as the attribute it is made from."""
    if label.startswith("gen_ai_"):
        return "gen_ai." + label.removeprefix("gen_ai_").replace("_", ".")
    return "error.type" if label == "error_type" else label
