"""`generate`: a log of made-up runs that reads like a real one."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from sidestream.demo.generate import generate
from sidestream.errors import ConfigurationError
from sidestream.events import (
    AgentEnd,
    AgentStart,
    AnyEvent,
    LLMChunk,
    LLMEnd,
    ToolEnd,
    ToolStart,
    decode_line,
    encode_line,
)

UNTIL = datetime(2026, 11, 20, tzinfo=UTC)
COUNT = 20_000


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(generate(tmp_path_factory.mktemp("log") / "made.jsonl", events=COUNT, until=UNTIL))


@pytest.fixture(scope="module")
def events(log: Path) -> list[AnyEvent]:
    return [decode_line(line) for line in log.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def runs(events: list[AnyEvent]) -> dict[str, list[AnyEvent]]:
    found: dict[str, list[AnyEvent]] = defaultdict(list)
    for event in events:
        found[event.run_id].append(event)
    return found


class TestTheLog:
    def test_has_as_many_events_as_were_asked_for(self, events: list[AnyEvent]) -> None:
        assert len(events) == COUNT

    def test_holds_each_event_as_the_library_would_write_it(self, log: Path, events: list[AnyEvent]) -> None:
        assert log.read_bytes() == b"".join(map(encode_line, events))

    def test_is_the_same_for_the_same_seed_and_time(self, log: Path, tmp_path: Path) -> None:
        again = Path(generate(tmp_path / "again.jsonl", events=COUNT, until=UNTIL))
        other = Path(generate(tmp_path / "other.jsonl", events=COUNT, until=UNTIL, seed=1))
        assert again.read_bytes() == log.read_bytes() != other.read_bytes()

    def test_is_spread_over_the_days(self, events: list[AnyEvent]) -> None:
        days = {event.timestamp.date() for event in events}
        assert {(UNTIL - timedelta(days=n)).date() for n in range(1, 8)} <= days
        assert max(event.timestamp for event in events) < UNTIL + timedelta(hours=1)

    def test_mixes_the_lines_of_runs_that_overlap(self, events: list[AnyEvent]) -> None:
        changes = sum(a.run_id != b.run_id for a, b in pairwise(events))
        assert changes > len({event.run_id for event in events}) * 2

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
    def test_is_for_its_owner_alone(self, log: Path) -> None:
        assert stat.S_IMODE(log.stat().st_mode) == 0o600


class TestTheRuns:
    def test_have_no_gap_and_end_once_but_for_those_cut_off_at_the_end(self, runs: dict[str, list[AnyEvent]]) -> None:
        lost = 0
        for told in runs.values():
            assert [event.seq for event in told] == list(range(len(told)))
            assert all(a.offset <= b.offset for a, b in pairwise(told))
            assert isinstance(told[0].data, AgentStart)
            ends = [event for event in told if isinstance(event.data, AgentEnd)]
            assert ends in ([], [told[-1]])
            lost += not ends
        assert 1 <= lost <= 24

    def test_end_in_every_way(self, events: list[AnyEvent]) -> None:
        outcomes = {event.data.outcome for event in events if isinstance(event.data, AgentEnd)}
        assert outcomes == {"completed", "error", "cancelled", "abandoned", "timed_out"}

    def test_use_tools_that_fail_and_retry_too(self, events: list[AnyEvent]) -> None:
        outcomes = {event.data.outcome for event in events if isinstance(event.data, ToolEnd)}
        assert outcomes == {"ok", "retry", "failed"}
        assert {"retry", "error", "custom", "final_result"} <= {event.event_type for event in events}

    def test_keep_books_that_add_up(self, runs: dict[str, list[AnyEvent]]) -> None:
        for told in runs.values():
            if isinstance(end := told[-1].data, AgentEnd):
                requests = [event.data for event in told if isinstance(event.data, LLMEnd)]
                assert end.total_iterations == len(requests)
                assert (end.total_tokens or 0) == sum(r.usage.total_tokens for r in requests if r.usage)
                assert (end.cost_usd or 0) == pytest.approx(sum(r.cost_usd or 0 for r in requests))

    def test_have_sub_agents_that_name_their_parents(self, runs: dict[str, list[AnyEvent]]) -> None:
        children = [
            start for told in runs.values() if isinstance(start := told[0].data, AgentStart) and start.parent_run_id
        ]
        assert children
        for child in children:
            parent = runs[child.parent_run_id or ""]
            calls = {event.data.tool_call_id for event in parent if isinstance(event.data, ToolStart)}
            assert child.parent_tool_call_id in calls
            assert child.root_run_id == child.parent_run_id

    def test_hold_deltas_that_can_be_had_back(self, events: list[AnyEvent]) -> None:
        for event in events:
            if isinstance(data := event.data, LLMChunk):
                assert data.lengths is not None
                assert data.offsets_us is not None
                assert sum(data.lengths) == len(data.text)
                assert len(data.lengths) == len(data.offsets_us)
                assert data.offsets_us == sorted(data.offsets_us)
                assert data.offsets_us[0] == 0

    def test_have_models_with_and_without_a_price(self, events: list[AnyEvent]) -> None:
        ends = [event.data for event in events if isinstance(event.data, LLMEnd) and event.data.usage]
        assert all((end.cost_usd is None) == (end.unpriced is True) for end in ends)
        assert {end.unpriced for end in ends} == {None, True}


class TestMistakes:
    def test_a_file_that_is_there_already_is_left_alone(self, log: Path) -> None:
        before = log.stat().st_size
        with pytest.raises(ConfigurationError, match="there already"):
            generate(log, events=1)
        assert log.stat().st_size == before

    def test_no_events_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="at least 1"):
            generate(tmp_path / "made.jsonl", events=0)

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match="cannot be made"):
            generate(tmp_path / "file" / "made.jsonl", events=1)


def test_the_command_writes_into_a_folder_and_says_what(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from sidestream.cli import main; main()", "demo", "--events", "1500"]
    done = subprocess.run([*command, "--out", "logs/"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    [file] = (tmp_path / "logs").glob("*.jsonl")
    assert len(file.read_bytes().splitlines()) == 1_500
    assert done.stdout.startswith(f"1,500 events in logs/{file.name}")
