"""Native histograms: sparse exponential buckets beside the classic ones, for exporters with `histograms=native`.

The buckets are those of Prometheus' native histograms: bucket `i` of schema `s` ends at `2 ** (i * 2 ** -s)`. The zero
bucket counts zero and smaller values than any measurement.

    buckets = NativeBuckets()
    buckets.add(1.0)        # counts[0]: from 0.917, exclusive, to 1
    buckets.add(1.05)       # counts[1]: to 1.0905
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from itertools import compress
from math import floor, frexp
from typing import Any

from .definitions import BY_NAME, Metric
from .store import Origin, Series, Store

SCHEMA = 3
"""Initial schema: eight buckets per doubling, so that a quantile is at most 4.4 % off."""
MAX_BUCKETS = 160
"""Maximum number of buckets of one histogram. Beyond, pairs of neighbours merge, and the schema decreases by one.

`NativeHistogramMaxBucketNumber` of client_golang does the same; 160 is the default of OpenTelemetry's SDKs
(base2 exponential bucket histogram aggregation)."""
ZERO_THRESHOLD = 2.0**-128
"""Highest value in the zero bucket: `DefNativeHistogramZeroThreshold` of client_golang."""

_PER_DOUBLING = 2**SCHEMA
_FRACTIONS = [2.0 ** (step / _PER_DOUBLING - 1) for step in range(_PER_DOUBLING)]
"""Bucket bounds between 0.5 and 1, the range of `frexp`."""


class NativeBuckets:
    """Sparse buckets of one histogram: number of observations by bucket index."""

    __slots__ = ("counts", "schema", "zero")

    def __init__(self, counts: dict[int, int] | None = None, schema: int = SCHEMA, zero: int = 0) -> None:
        self.counts = {} if counts is None else counts
        self.schema = schema
        self.zero = zero
        """Observations in the zero bucket."""

    def add(self, value: float, times: int = 1) -> None:
        """Count `value`, which must not be negative."""
        if value <= ZERO_THRESHOLD:
            self.zero += times
            return
        fraction, exponent = frexp(value)
        index = bisect_left(_FRACTIONS, fraction) + (exponent - 1) * _PER_DOUBLING
        if self.schema != SCHEMA:
            index = _merged(index, SCHEMA - self.schema)
        counts = self.counts
        if index in counts:
            counts[index] += times
        else:
            counts[index] = times
            while len(self.counts) > MAX_BUCKETS:
                self._halve_resolution()

    def copy(self) -> NativeBuckets:
        return NativeBuckets(self.counts.copy(), self.schema, self.zero)

    def dump(self) -> list[Any]:
        """State as JSON data."""
        return [self.schema, self.zero, list(self.counts.items())]

    @classmethod
    def load(cls, state: Sequence[Any]) -> NativeBuckets:
        """Buckets from a state of `dump`."""
        schema, zero, counts = state
        return cls({int(index): count for index, count in counts}, schema, zero)

    def _halve_resolution(self) -> None:
        merged: dict[int, int] = {}
        for index, count in self.counts.items():
            index = _merged(index, 1)
            merged[index] = merged.get(index, 0) + count
        self.counts = merged
        self.schema -= 1


def _merged(index: int, halvings: int) -> int:
    """Index, after `halvings` of the resolution, of the bucket that contains bucket `index`."""
    return ((index - 1) >> halvings) + 1


class NativeStore(Store):
    """Store whose histograms have native buckets too."""

    def observe(self, name: str, labels: tuple[str, ...], value: float, origin: Origin | None = None) -> Series | None:
        series = super().observe(name, labels, value, origin)
        if series is not None:
            _native(series).add(value)
        return series

    def bounds(self, name: str) -> tuple[float, ...]:
        return _fine(BY_NAME[name].buckets)

    def merge(self, name: str, labels: tuple[str, ...], total: float, counts: Sequence[int]) -> Series:
        buckets, bounds = BY_NAME[name].buckets, self.bounds(name)
        series = super().merge(name, labels, total, [0] * (len(buckets) + 1))
        native = _native(series)
        for place in compress(range(len(counts)), counts):
            bound = bounds[place] if place < len(bounds) else 2 * bounds[-1]
            series.counts[bisect_left(buckets, bound)] += counts[place]
            native.add(bound, counts[place])
        return series

    def _admit(self, metric: Metric, known: dict[tuple[str, ...], Series], given: tuple[str, ...]) -> Series:
        series = super()._admit(metric, known, given)
        if series.native is None and metric.kind == "histogram":
            series.native = NativeBuckets()
        return series

    def _restore(self, series: Series, value: float, counts: list[int], native: Sequence[Any] | None) -> None:
        """Restore one series. Observations without native buckets move to the upper bounds of their classic buckets."""
        super()._restore(series, value, counts, native)
        if native is not None:
            series.native = NativeBuckets.load(native)
        elif series.native is not None:
            series.native = NativeBuckets()
            for bound, count in zip((*series.buckets, 2 * series.buckets[-1]), counts, strict=True):
                if count:
                    series.native.add(bound, count)


@cache
def _fine(bounds: tuple[float, ...]) -> tuple[float, ...]:
    """Bounds of classic and native buckets together, from a microsecond to four minutes, in whole microseconds."""
    indexes = range(-20 * _PER_DOUBLING, 8 * _PER_DOUBLING + 1)
    native = (floor(2 ** (index / _PER_DOUBLING) * 1e6) / 1e6 for index in indexes)
    return tuple(sorted({0.0, *native, *bounds}))


def _native(series: Series) -> NativeBuckets:
    """Native buckets of a histogram of `NativeStore`, where every histogram has them."""
    assert series.native is not None
    return series.native
