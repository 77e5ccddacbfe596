"""Selection of the published metrics and histogram buckets."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias, get_args

from sidestream.errors import ConfigurationError

from .definitions import METRICS, Metric
from .store import Exemplar, Point

Buckets: TypeAlias = Literal["fine", "coarse"]
COARSE = 4
"""Ratio of bucket bounds to kept bounds with coarse buckets; the highest bound is always kept."""
ALWAYS = frozenset({"sidestream_build_info", "sidestream_start_time_seconds"})
"""Metrics by which boards and alerts identify a process."""


class Selection:
    """Metrics to publish.

    Args:
        patterns: Names, with `*` for any characters; a leading `-` excludes. All metrics if None, or without
            inclusions.
        buckets: `coarse` keeps a quarter of the bounds of each histogram.

    Raises `ConfigurationError` if a pattern matches no metric, or `buckets` is unknown.
    """

    def __init__(self, patterns: Sequence[str] | None = None, buckets: Buckets = "fine") -> None:
        if buckets not in get_args(Buckets):
            raise ConfigurationError(f"prometheus: buckets={buckets!r}: choose {' or '.join(get_args(Buckets))}")
        wanted = _matching([each for each in patterns or () if not each.startswith("-")])
        unwanted = _matching([each[1:] for each in patterns or () if each.startswith("-")])
        names = (wanted or {metric.name for metric in METRICS}) - unwanted | ALWAYS
        self.metrics: tuple[Metric, ...] = tuple(
            _coarse(metric) if buckets == "coarse" else metric for metric in METRICS if metric.name in names
        )
        self._is_coarse = buckets == "coarse"
        self._fine = {metric.name: metric for metric in METRICS}

    def of(self, snapshot: Mapping[str, Sequence[Point]]) -> dict[str, list[Point]]:
        """Apply the selection to `snapshot`."""
        return {
            metric.name: [self._point(metric, point) for point in snapshot[metric.name]]
            for metric in self.metrics
            if metric.name in snapshot
        }

    def _point(self, metric: Metric, point: Point) -> Point:
        if not self._is_coarse or metric.kind != "histogram":
            return point
        counts = [0] * (len(metric.buckets) + 1)
        for bound, count in zip(self._fine[metric.name].buckets, point.counts, strict=False):
            counts[bisect_left(metric.buckets, bound)] += count
        counts[-1] += point.counts[-1]
        latest: dict[int, Exemplar] = {}
        for exemplar in point.exemplars:
            bucket = bisect_left(metric.buckets, exemplar.value)
            if bucket not in latest or latest[bucket].origin.timestamp <= exemplar.origin.timestamp:
                latest[bucket] = exemplar
        return point._replace(counts=tuple(counts), exemplars=tuple(latest.values()))


def _coarse(metric: Metric) -> Metric:
    if metric.kind != "histogram":
        return metric
    kept = {bound for number, bound in enumerate(reversed(metric.buckets)) if number % COARSE == 0}
    return replace(metric, buckets=tuple(sorted(kept)))


def _matching(patterns: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        names = {metric.name for metric in METRICS if fnmatchcase(metric.name, pattern)}
        if not names:
            raise ConfigurationError(
                f"prometheus: metrics: no metric matches {pattern!r}: docs/metrics.md lists the names; `*` stands "
                f"for any letters"
            )
        found |= names
    return found
