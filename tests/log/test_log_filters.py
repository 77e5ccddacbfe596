"""Filters of runs and their text form."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestream import ConfigurationError, log
from tests.support.log_builder import BEGIN, QUICK, run_events, write

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("1h30m", timedelta(minutes=90)),
        ("7d", timedelta(days=7)),
        ("1w", timedelta(days=7)),
        ("0.5h", timedelta(minutes=30)),
    ],
)
def test_an_age(text: str, age: timedelta) -> None:
    assert log.parse_time(text, NOW) == NOW - age


@pytest.mark.parametrize("text", ["2026-11-20", "2026-11-20T09:30", "2026-11-20 09:30:05"])
def test_a_date_or_time_is_of_this_machines_zone(text: str) -> None:
    assert log.parse_time(text, NOW) == datetime.fromisoformat(text).astimezone()


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2026-11-20T09:30Z", datetime(2026, 11, 20, 9, 30, tzinfo=UTC)),
        ("2026-11-20T09:30+02:00", datetime(2026, 11, 20, 7, 30, tzinfo=UTC)),
    ],
)
def test_a_time_with_an_offset_is_what_it_says(text: str, when: datetime) -> None:
    assert log.parse_time(text, NOW) == when


def test_today_and_yesterday_begin_at_midnight_here() -> None:
    midnight = NOW.astimezone().replace(hour=0, minute=0)
    assert log.parse_time("today", NOW) == midnight
    assert log.parse_time("Yesterday", NOW).astimezone().replace(tzinfo=None) == midnight.replace(
        tzinfo=None
    ) - timedelta(days=1)


@settings(QUICK)
@given(st.text(max_size=12))
def test_any_other_text_is_a_time_or_an_error_and_nothing_else(text: str) -> None:
    with suppress(ConfigurationError):
        assert log.parse_time(text, NOW).tzinfo is not None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"outcomes": ["faild"]}, "outcome 'faild': choose from completed, .*lost, running"),
        ({"tags": ["=x"]}, "tag '=x': write name=value"),
        ({"since": "soon"}, "time 'soon': write an age"),
        ({"until": "99999999999w"}, "time '99999999999w'"),
        ({"min_cost": "cheap"}, "cost 'cheap': write US dollars"),
        ({"min_cost": "-1"}, "cost '-1'"),
        ({"min_cost": "inf"}, "cost 'inf'"),
        ({"slower": "long"}, "duration 'long': write seconds"),
        ({"slower": "-2s"}, "duration '-2s'"),
    ],
)
def test_an_invalid_filter_is_an_error(wrong: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        log.Filter.parse(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    events = [
        *run_events("one", agent="support", model="gpt-4o", tags={"env": "test", "user": "a"}, conversation_id="c-1"),
        *run_events(
            "two", agent="billing", model="gpt-4o-mini", minutes=60, tags={"env": "live"}, attempt=1, attempt_of="two"
        ),
        *run_events("three", agent="support-2", model="claude", minutes=120, ended=False, attempt=2, attempt_of="two"),
    ]
    write(tmp_path / "a.jsonl", events)
    return tmp_path


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, "one two three"),
        ({"agents": ["support"]}, "one"),
        ({"agents": ["support*", "billing"]}, "one two three"),
        ({"models": ["gpt-*"]}, "one two"),
        ({"models": ["gpt-4o"]}, "one"),
        ({"outcomes": ["lost"]}, "three"),
        ({"outcomes": ["completed", "lost"]}, "one two three"),
        ({"tags": ["env"]}, "one two"),
        ({"tags": ["env=test"]}, "one"),
        ({"tags": ["env=test", "user=b"]}, ""),
        ({"since": "2026-11-20T10:00Z"}, "two three"),
        ({"until": "2026-11-20T10:00Z"}, "one"),
        ({"since": "2026-11-20T09:30Z", "until": "2026-11-20T10:30Z"}, "two"),
        ({"agents": ["support*"], "outcomes": ["lost"]}, "three"),
        ({"conversations": ["c-*"]}, "one"),
        ({"tools": ["look_*", "other"]}, "one two three"),
        ({"tools": ["look"]}, ""),
        ({"min_cost": "$0.03"}, "one two three"),
        ({"min_cost": "0.04"}, ""),
        ({"slower": "1.45s"}, "one two"),
        ({"slower": "1500ms", "outcomes": ["completed"]}, "one two"),
        ({"slower": "1m"}, ""),
        ({"attempts_of": ["two"]}, "two three"),
        ({"attempts_of": ["wo", "one"]}, "two three"),
        ({"attempts_of": ["w"]}, ""),
        ({"min_attempt": 1}, "two three"),
        ({"min_attempt": 2}, "three"),
    ],
)
def test_a_filter_selects_runs_that_meet_all_conditions(
    folder: Path, where: dict[str, list[str]], expected: str
) -> None:
    chosen = log.Filter.parse(**where)  # type: ignore[arg-type]
    assert [run.run_id for run in log.runs(folder, chosen)] == expected.split()
    assert {event.run_id for event in log.events(folder, where=chosen)} == set(expected.split())
    assert log.statistics(folder, chosen).total.count == len(expected.split())


def test_an_age_is_counted_from_now(folder: Path) -> None:
    assert log.runs(folder, log.Filter.parse(since="1h", now=BEGIN + timedelta(minutes=150))) == log.runs(
        folder, log.Filter(agents=("support-2",))
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("2", 2.0), ("2.5s", 2.5), ("1.5m", 90.0), ("1h30m", 5400.0), ("1d", 86_400.0)],
)
def test_a_duration(text: str, seconds: float) -> None:
    assert log.parse_duration(text) == seconds


@settings(QUICK)
@given(st.text(max_size=12))
def test_any_other_text_is_a_duration_or_an_error_and_nothing_else(text: str) -> None:
    with suppress(ConfigurationError):
        assert log.parse_duration(text) >= 0.0


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("started", "three two one"),
        ("-started", "one two three"),
        ("cost", "one three two"),
        ("-duration", "three one two"),
        ("first-token", "one three two"),
    ],
)
def test_an_order(folder: Path, written: str, expected: str) -> None:
    """The largest is first, or the smallest with a minus; ties are in order of the id."""
    assert [run.run_id for run in log.Order.parse(written).sorted(log.runs(folder))] == expected.split()


def test_unknown_values_come_last(folder: Path) -> None:
    import msgspec

    runs = log.runs(folder)
    runs[0] = msgspec.structs.replace(runs[0], cost_usd=None)
    for written in ("cost", "-cost"):
        assert log.Order.parse(written).sorted(runs)[-1].run_id == "one"


def test_an_invalid_order_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"sort 'size': choose from started, duration, cost"):
        log.Order.parse("size")
