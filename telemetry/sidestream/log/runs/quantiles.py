"""Quantiles of durations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Distribution of durations in seconds."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


def quantiles(seconds: Sequence[float | None]) -> Quantiles | None:
    """Distribution of the known values, with linear interpolation; None if no value is known."""
    known = sorted(value for value in seconds if value is not None)
    if not known:
        return None

    def at(share: float) -> float:
        place = share * (len(known) - 1)
        below = math.floor(place)
        above = min(below + 1, len(known) - 1)
        return known[below] + (known[above] - known[below]) * (place - below)

    return Quantiles(
        count=len(known),
        mean=math.fsum(known) / len(known),
        p50=at(0.5),
        p95=at(0.95),
        p99=at(0.99),
        max=known[-1],
    )
