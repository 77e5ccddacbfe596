"""Quantiles of durations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Distribution of durations in seconds."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


SHARES = (0.5, 0.95, 0.99)
"""Shares of the values that are at most the median, `p95` and `p99`."""


def quantiles(seconds: Sequence[float | None]) -> Quantiles | None:
    """Distribution of the known values, with linear interpolation; None if no value is known."""
    known = sorted(value for value in seconds if value is not None)
    if not known:
        return None
    return quantiles_of(len(known), math.fsum(known), known.__getitem__)


def quantiles_of(count: int, total: float, at: Callable[[int], float]) -> Quantiles:
    """Distribution of `count` values with the sum `total`; `at` returns the value of a rank, 0 for the least."""

    def quantile(share: float) -> float:
        place = share * (count - 1)
        below, above = ranks(share, count)
        return at(below) + (at(above) - at(below)) * (place - below)

    p50, p95, p99 = map(quantile, SHARES)
    return Quantiles(count=count, mean=total / count, p50=p50, p95=p95, p99=p99, max=at(count - 1))


def ranks(share: float, count: int) -> tuple[int, int]:
    """Ranks of the two of `count` sorted values between which a quantile lies."""
    below = math.floor(share * (count - 1))
    return below, min(below + 1, count - 1)
