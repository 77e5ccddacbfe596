"""Conversion of the aggregator's points to prometheus_client's metric families, which the library renders."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf

from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as FamilyExemplar
from prometheus_client.samples import Sample

from sidestream.metrics.definitions import Metric
from sidestream.metrics.store import Exemplar, Point
from sidestream.pipeline.yielding import GilYielder

from . import compat


class MetricsCollector(Collector):
    """Collector of the points of a snapshot. Metrics without a time series are left out.

    Args:
        snapshot: Function that returns the points of each metric.
        metrics: Metrics to collect.
        with_created: Whether counters and histograms have a `_created` sample, as in OpenMetrics. Prometheus' text
            format would show a separate gauge.
    """

    def __init__(
        self,
        snapshot: Callable[[], Mapping[str, Sequence[Point]]],
        metrics: Sequence[Metric],
        *,
        with_created: bool = False,
    ) -> None:
        self._snapshot = snapshot
        self._metrics = metrics
        self._with_created = with_created

    def describe(self) -> Iterable[Family]:
        """All metrics without values, so that a registry detects duplicate names."""
        return [_family(metric) for metric in self._metrics]

    def collect(self) -> Iterator[Family]:
        snapshot, yielder = self._snapshot(), GilYielder()
        with_created = self._with_created and compat.wants_created()
        for metric in self._metrics:
            if points := snapshot.get(metric.name):
                family = _family(metric)
                compat.set_samples(family, _Samples(metric, points, yielder, with_created))
                yield family


class _Samples:
    def __init__(self, metric: Metric, points: Sequence[Point], yielder: GilYielder, with_created: bool) -> None:
        self._metric = metric
        self._with_created = with_created and metric.kind != "gauge"
        self._points = points
        self._yielder = yielder

    def __iter__(self) -> Iterator[Sample]:
        make = _histogram if self._metric.kind == "histogram" else _single
        for point in self._points:
            for sample in make(self._metric, point):
                yield sample
                self._yielder.maybe_yield()
            if self._with_created and point.created:
                yield Sample(f"{_family_name(self._metric)}_created", _labels(self._metric, point), point.created)


def _family(metric: Metric) -> Family:
    return Family(_family_name(metric), metric.help, metric.kind)


def _family_name(metric: Metric) -> str:
    return metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name


def _labels(metric: Metric, point: Point) -> dict[str, str]:
    return dict(zip(metric.labels, point.labels, strict=True))


def _single(metric: Metric, point: Point) -> Iterator[Sample]:
    labels = _labels(metric, point)
    exemplar = _exemplar(point.exemplars[0]) if point.exemplars else None
    yield Sample(metric.name, labels, point.value, None, exemplar)


def _histogram(metric: Metric, point: Point) -> Iterator[Sample]:
    labels = _labels(metric, point)
    exemplars = {bisect_left(metric.buckets, one.value): one for one in point.exemplars}
    total = 0
    for bucket, (bound, count) in enumerate(zip(bounds(metric), point.counts, strict=True)):
        total += count
        exemplar = _exemplar(exemplars[bucket]) if bucket in exemplars else None
        yield Sample(f"{metric.name}_bucket", {**labels, "le": bound}, total, None, exemplar)
    yield Sample(f"{metric.name}_count", labels, total)
    yield Sample(f"{metric.name}_sum", labels, point.value)


def bounds(metric: Metric) -> list[str]:
    """Values of the label `le` for the buckets of a histogram, ending with `+Inf`."""
    return [compat.bound_text(bound) for bound in (*metric.buckets, inf)]


def _exemplar(exemplar: Exemplar) -> FamilyExemplar:
    origin = exemplar.origin
    labels = {"trace_id": origin.trace_id, "span_id": origin.span_id, "run_id": origin.run_id}
    return FamilyExemplar({name: text for name, text in labels.items() if text}, exemplar.value, origin.timestamp)
