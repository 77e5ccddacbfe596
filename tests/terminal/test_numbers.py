"""Numbers, durations and money as console, commands, pages and demo show them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidestream.terminal.numbers import counted, humanize_count, humanize_seconds, humanize_usd, plural


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (None, ""),
        (0, "$0"),
        (12.3, "$12.30"),
        (17.254, "$17.25"),
        (1234.5, "$1,234.50"),
        (0.9996, "$1.00"),
        (0.996, "$0.996"),
        (0.5, "$0.50"),
        (0.042, "$0.042"),
        (0.0421, "$0.0421"),
        (0.00067, "$0.00067"),
        (0.000666, "$0.000666"),
        (0.0000123, "$0.000012"),
        (0.0000001, "<$0.000001"),
        (-0.02, "-$0.02"),
    ],
)
def test_money_has_as_many_digits_as_say_something(usd: float | None, shown: str) -> None:
    assert humanize_usd(usd) == shown


@given(st.floats(0.0001, 1e9))
def test_money_is_shown_within_half_a_percent(usd: float) -> None:
    assert float(humanize_usd(usd)[1:].replace(",", "")) == pytest.approx(usd, rel=0.0051)


@pytest.mark.parametrize(
    ("duration", "shown"),
    [
        (None, ""),
        (0, "0ms"),
        (0.000001, "<0.01ms"),
        (0.00025, "0.25ms"),
        (0.0042, "4.2ms"),
        (0.042, "42ms"),
        (0.41, "410ms"),
        (0.9996, "1.00s"),
        (3.21, "3.21s"),
        (9.999, "10.0s"),
        (59.96, "1m00s"),
        (99.96, "1m40s"),
        (245, "4m05s"),
        (7380, "2h03m"),
    ],
)
def test_durations_are_in_the_unit_that_fits(duration: float | None, shown: str) -> None:
    assert humanize_seconds(duration) == shown


@given(st.floats(0, 10_000), st.floats(0, 10_000))
def test_of_two_durations_the_longer_one_never_reads_as_the_shorter(one: float, other: float) -> None:
    def in_seconds(shown: str) -> float:
        for unit, size in (("ms", 0.001), ("s", 1.0)):
            if shown.endswith(unit) and "m" not in shown.removesuffix(unit):
                return float(shown.removesuffix(unit).removeprefix("<")) * size
        hours, _, rest = shown.rpartition("h")
        minutes, _, secs = rest.partition("m")
        return 3600 * int(hours or 0) + 60 * int(minutes) + int(secs.removesuffix("s") or 0)

    short, long = sorted((one, other))
    assert in_seconds(humanize_seconds(short)) <= in_seconds(humanize_seconds(long)) + 0.00001


def test_counts_have_four_digits_at_most() -> None:
    numbers = (None, 0, 999, 1_204, 9_960, 123_456, 999_900, 12_345_678, 2_000_000_000)
    shown = ["", "0", "999", "1.2k", "10k", "123k", "1.0M", "12M", "2.0G"]
    assert list(map(humanize_count, numbers)) == shown


def test_a_noun_follows_its_number() -> None:
    assert [counted(1, "run"), counted(1_200, "run"), counted(2, "retry"), counted(None, "run")] == [
        "1 run", "1,200 runs", "2 retries", "",
    ]  # fmt: skip
    assert [plural(1, "retry"), plural(0, "run")] == ["retry", "runs"]
