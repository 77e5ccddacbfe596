"""Delays between retries."""

from __future__ import annotations

from sidestream.pipeline.backoff import Backoff


def test_delays_double_up_to_the_longest_and_vary_by_a_fifth() -> None:
    backoff = Backoff(1.0, 10.0)
    for expected in (1, 2, 4, 8, 10, 10):
        backoff.fail()
        assert 0.8 * expected <= backoff.delay() <= 1.2 * expected


def test_a_success_starts_anew_and_tells_how_long_it_took() -> None:
    backoff = Backoff(1.0, 10.0)
    for _ in range(4):
        backoff.fail()
    assert backoff.succeed() == 4
    backoff.fail()
    assert backoff.delay() <= 1.2


def test_failures_for_years_overflow_nothing() -> None:
    backoff = Backoff(0.25, 30.0)
    backoff.failures = 10**9
    assert backoff.delay() <= 36
