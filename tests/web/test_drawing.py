"""Numbers, times and positions on the pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidestream.events import AgentStart
from sidestream.log import RunSummary, load_run
from sidestream.log.runs.overview import over_time
from sidestream.web.charts import BINS, HEIGHT, Chart, charts
from sidestream.web.run_page import run_page
from sidestream.web.waterfall import ticks, waterfall
from sidestream.web.wording import ago, as_text, money, seconds, short_count
from tests.support.run_events import ask, chunk
from tests.support.web_log import BEGUN, BILLING, SHOP, lines


class TestWording:
    def test_what_nobody_knows_is_a_dash_and_the_rest_as_in_the_terminal(self) -> None:
        assert [money(None), seconds(None), short_count(None)] == ["–", "–", "–"]
        assert [money(0.042), seconds(0.042), short_count(1256)] == ["$0.042", "42ms", "1.3k"]

    @pytest.mark.parametrize(
        ("passed", "shown"), [(0, "now"), (12, "12s ago"), (300, "5m ago"), (7200, "2h ago"), (200_000, "2d ago")]
    )
    def test_times_are_relative_when_near(self, passed: float, shown: str) -> None:
        assert ago(BEGUN, BEGUN + timedelta(seconds=passed)) == shown

    def test_times_are_dates_when_far_and_whole_when_ahead(self) -> None:
        """After a clock is set back, runs lie in the future."""
        assert ago(BEGUN, BEGUN + timedelta(days=30)).endswith("Nov 2026")
        assert ago(BEGUN, BEGUN - timedelta(days=1)).startswith("2026-11-")

    def test_values_that_are_no_text_are_json(self) -> None:
        assert as_text({"a": 1}) == '{"a": 1}'
        assert as_text({"a": "x" * 80}).startswith('{\n  "a"')


class TestWaterfall:
    def test_a_bar_lies_where_its_step_was(self, log: Path) -> None:
        drawn = waterfall(load_run(str(log), SHOP))
        second = next(row for row in drawn.rows if row.note == "#2")
        assert second.left == pytest.approx(100 * 0.91 / 1.32)
        assert second.width == pytest.approx(100 * 0.3 / 1.32)
        assert second.first_token == pytest.approx(100 * 1.01 / 1.32)

    def test_a_sub_agent_lies_within_the_tool_that_began_it(self, log: Path) -> None:
        rows = waterfall(load_run(str(log), SHOP)).rows
        tool = next(row for row in rows if row.name == "ask_billing")
        sub = next(row for row in rows if row.id == f"run-{BILLING}")
        assert sub.depth == tool.depth + 1
        assert tool.left < sub.left
        assert sub.left + sub.width < tool.left + tool.width

    def test_pieces_are_strokes_within_their_request(self, log: Path) -> None:
        first = next(row for row in waterfall(load_run(str(log), SHOP)).rows if row.note == "#1")
        places = [int(stroke.partition(" ")[0]) for stroke in first.chunks.split("M")[1:]]
        assert len(places) == 4
        assert places == sorted(places)
        assert places[0] == pytest.approx(300, abs=5)  # 0.09 s into 0.3 s

    def test_what_has_no_end_yet_lasts_until_now(self, tmp_path: Path) -> None:
        """A lost run ends at its last known moment."""
        told = [(0.0, AgentStart(root_run_id="lost")), (0.5, ask(1)), (2.0, chunk("Hel"))]
        (tmp_path / "log.jsonl").write_bytes(lines("lost", told))
        row = waterfall(load_run(str(tmp_path), "lost")).rows[1]
        assert row.open
        assert row.left == pytest.approx(25)

    def test_ids_stay_while_the_log_grows(self, tmp_path: Path, log: Path) -> None:
        whole = (log / "log.jsonl").read_bytes().splitlines(keepends=True)
        (tmp_path / "log.jsonl").write_bytes(b"".join(whole[:8]))
        before = [row.id for row in waterfall(load_run(str(tmp_path), SHOP)).rows]
        assert before == [row.id for row in waterfall(load_run(str(log), SHOP)).rows][: len(before)]

    @given(st.floats(1e-4, 1e7))
    def test_the_axis_has_a_few_round_times_in_order(self, total: float) -> None:
        marks = ticks(total)
        assert 3 <= len(marks) <= 14
        places = [place for place, _ in marks]
        assert places[0] == 0
        assert places == sorted(places)
        assert places[-1] <= 100.0001

    @given(st.floats(1e-6, 1e7))
    def test_no_two_marks_of_the_axis_read_the_same(self, total: float) -> None:
        labels = [label for _, label in ticks(total)]
        assert len(set(labels)) == len(labels)


def test_playing_knows_each_piece_and_when_it_came(log: Path) -> None:
    timing = run_page(load_run(str(log), SHOP)).timing
    texts = [text for key, text in timing["texts"].items() if key.startswith(f"request-{SHOP[-12:]}")]
    assert [len(text["at"]) for text in texts] == [2, 2, 7]
    assert texts[2]["at"][:3] == pytest.approx([1.1, 1.12, 1.14])
    assert sum(texts[2]["lengths"]) == len("Your bag arrives on Thursday *.")
    assert timing["seconds"] == pytest.approx(1.32)


def summary(number: int, at: datetime | None, **facts: object) -> RunSummary:
    given: dict[str, object] = {"outcome": "completed", "cost_usd": 0.5, "duration_seconds": 1.0}
    return RunSummary(run_id=f"run-{number}", root_run_id=f"run-{number}", started=at, **(given | facts))  # type: ignore[arg-type]


def drawn(runs: list[RunSummary]) -> list[Chart]:
    return charts(over_time(runs, BINS, with_sub_agents=True))


moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
outcomes = st.sampled_from(["completed", "error", "cancelled", "timed_out", "abandoned", "lost", "running"])


class TestCharts:
    @given(
        st.lists(
            st.tuples(moments, outcomes, st.none() | st.floats(0, 1e6), st.none() | st.floats(0, 1e6)),
            min_size=1,
            max_size=60,
        )
    )
    def test_bars_stay_within_the_chart(self, runs: list[tuple[datetime, str, float | None, float | None]]) -> None:
        made = [
            summary(number, at, outcome=outcome, cost_usd=usd, duration_seconds=took)
            for number, (at, outcome, usd, took) in enumerate(runs)
        ]
        for chart in drawn(made):
            assert len(chart.bins) == BINS
            for each in chart.bins:
                assert all(piece.y >= 0 for piece in each.pieces)
                assert sum(piece.height for piece in each.pieces) <= HEIGHT + 1.5 * len(each.pieces)

    def test_what_nobody_knows_is_no_zero(self) -> None:
        made = drawn([summary(1, BEGUN, cost_usd=None, duration_seconds=None)])
        assert [chart.total for chart in made] == ["1", "–", "–"]

    def test_a_cost_that_is_a_lower_bound_says_so(self) -> None:
        cost = drawn([summary(1, BEGUN, unpriced_requests=2)])[1]
        assert (cost.total, cost.note) == ("≥$0.50", "at least: 1 run not known in full")

    @pytest.mark.parametrize(("outcome", "failed"), [("timed_out", True), ("lost", True), ("cancelled", False)])
    def test_a_run_has_failed_where_its_outcome_is_a_fault(self, outcome: str, failed: bool) -> None:
        ends = drawn([summary(1, BEGUN, outcome=outcome)])[0]
        assert ends.note == ("100.0 % failed" if failed else "0.0 % failed")
        assert [piece.tone for each in ends.bins for piece in each.pieces] == ["bad" if failed else "warn"]

    def test_a_link_of_a_bin_takes_the_runs_of_that_bin(self) -> None:
        runs = [summary(number, BEGUN + timedelta(minutes=7 * number)) for number in range(30)]
        for chart in drawn(runs)[:1]:
            for each in chart.bins:
                within = [run for run in runs if run.started and each.since <= run.started < each.until]
                assert each.title == (f"{len(within)} completed" if within else "no runs")

    def test_runs_without_a_time_make_no_chart(self) -> None:
        assert drawn([summary(1, None)]) == []
