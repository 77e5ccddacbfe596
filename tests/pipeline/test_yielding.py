"""Slices of background work: short if event loops wait, long if other threads only compute."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from sidestream.pipeline import yielding
from sidestream.pipeline.yielding import LONG_SLICE, MEASURE_SECONDS, SHORT_SLICE, GilYielder, hurrying


@dataclass
class Clock:
    """Simulated process: wall time, CPU time of the worker, and CPU time of other threads."""

    wall: float = 100.0
    mine: float = 1.0
    others: float = 50.0
    naps: list[float] = field(default_factory=list)

    def perf_counter(self) -> float:
        return self.wall

    def thread_time(self) -> float:
        return self.mine

    def process_time(self) -> float:
        return self.mine + self.others

    def sleep(self, seconds: float) -> None:
        self.naps.append(self.wall)
        self.wall += seconds

    def work(self, seconds: float) -> None:
        self.wall += seconds
        self.mine += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(yielding, "time", made)
    monkeypatch.setattr(yielding, "_load", yielding._Load())
    GilYielder()  # first measurement
    return made


def slices(clock: Clock, pieces: int = 1_000) -> list[float]:
    """Seconds between two sleeps of a yielder with pieces of 10 µs."""
    clock.naps.clear()
    begun, yielder = clock.wall, GilYielder()
    for _ in range(pieces):
        clock.work(1e-5)
        yielder.maybe_yield()
    return [nap - before for before, nap in zip([begun, *clock.naps], clock.naps, strict=False)]


def test_beside_a_loop_that_waits_slices_are_short(clock: Clock) -> None:
    clock.wall += 1.0
    clock.others += 0.3
    assert max(slices(clock, pieces=100)) < 2 * SHORT_SLICE + yielding.PAUSE


def test_beside_code_that_computes_without_a_pause_slices_are_long(clock: Clock) -> None:
    clock.wall += 1.0
    clock.others += 0.95
    assert min(slices(clock, pieces=500)) >= LONG_SLICE


def test_what_the_worker_itself_computes_is_no_sign_of_others(clock: Clock) -> None:
    clock.work(1.0)
    assert max(slices(clock, pieces=100)) < 2 * SHORT_SLICE + yielding.PAUSE


def test_code_that_computes_beside_a_busy_worker_is_seen(clock: Clock) -> None:
    clock.work(0.7)
    clock.wall += 0.3
    clock.others += 0.29
    assert min(slices(clock, pieces=500)) >= LONG_SLICE


def test_a_change_is_seen_within_moments(clock: Clock) -> None:
    clock.wall += 1.0
    clock.others += 0.95
    slices(clock, pieces=500)
    clock.wall += MEASURE_SECONDS
    assert slices(clock, pieces=500)[-1] < 2 * SHORT_SLICE + yielding.PAUSE


def test_on_the_thread_of_an_event_loop_it_never_sleeps(clock: Clock) -> None:
    async def main() -> None:
        assert slices(clock) == []

    asyncio.run(main())


def test_a_long_page_has_long_slices(clock: Clock) -> None:
    with hurrying(10.0, long_slices_after=0.1):
        assert max(slices(clock, pieces=100)) < 2 * SHORT_SLICE + yielding.PAUSE
        clock.work(0.1)
        assert min(slices(clock, pieces=500)[1:]) >= LONG_SLICE
    clock.wall += 1.0
    assert max(slices(clock, pieces=100)) < 2 * SHORT_SLICE + yielding.PAUSE
