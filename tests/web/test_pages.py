"""Text of the pages: run list, run, events, comparison, search."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sidestream.errors import ConfigurationError
from sidestream.events import AgentStart, Error, FinalResult, ToolEnd, ToolStart
from sidestream.web.app import make_app
from tests.support.web_client import client_of
from tests.support.web_log import BILLING, FAILED, PLAIN, SHOP, TRACE, ends, failed_run, lines, plain_run


def test_a_log_may_be_called_anything_the_system_allows(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"odd-\xff.jsonl")).write_bytes(plain_run())
    except OSError:
        pytest.skip("file names must be UTF-8 here")
    answer = client_of(tmp_path).get(f"/runs/{PLAIN}")
    assert answer.status_code == 200
    assert "odd-\\udcff.jsonl" in answer.text


def shown_runs(pages: TestClient, query: str = "") -> list[str]:
    """Run ids in the order of the list."""
    text = pages.get(f"/{query}").text
    return [part.partition('"')[0] for part in text.split('<tr id="run-')[1:]]


class TestTheList:
    def test_shows_top_level_runs_the_newest_first(self, pages: TestClient) -> None:
        assert shown_runs(pages) == [FAILED, PLAIN, SHOP]

    def test_shows_sub_agents_when_asked(self, pages: TestClient) -> None:
        assert shown_runs(pages, "?runs=all") == [FAILED, PLAIN, BILLING, SHOP]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("?outcome=error", [FAILED]),
            ("?agent=bill*&runs=all", [BILLING]),
            ("?tag=env=test", [SHOP]),
            ("?since=2026-11-20T09:33%2B00:00&until=2026-11-20T09:37%2B00:00", [PLAIN]),
            ("?model=nobody", []),
        ],
    )
    def test_filters(self, pages: TestClient, query: str, expected: list[str]) -> None:
        assert shown_runs(pages, query) == expected

    def test_sorts(self, pages: TestClient) -> None:
        assert shown_runs(pages, "?sort=duration") == [SHOP, PLAIN, FAILED]
        assert shown_runs(pages, "?sort=duration&order=up") == [FAILED, PLAIN, SHOP]

    def test_a_filter_that_cannot_be_meant_is_told_and_shows_all(self, pages: TestClient) -> None:
        answer = pages.get("/?since=whenever")
        assert answer.status_code == 200
        assert "write an age such as" in answer.text
        assert len(shown_runs(pages, "?since=whenever")) == 3

    def test_counts_the_cost_of_a_sub_agent_once(self, pages: TestClient) -> None:
        """The list of root runs counts a sub-agent in its parent's total, the list of all runs in its own row."""
        assert "Cost: $0.00072." in pages.get("/").text  # 0.0005 with the sub-agent, and 0.00022
        assert "Cost: $0.00066." in pages.get("/?runs=all").text  # three times 0.00022

    def test_is_cut_into_pages(self, tmp_path: Path) -> None:
        ids = [f"{number:08}-0000-7000-8000-000000000000" for number in range(250)]
        (tmp_path / "many.jsonl").write_bytes(b"".join(plain_run(each, minutes=n) for n, each in enumerate(ids)))
        pages = client_of(tmp_path)
        assert shown_runs(pages) == ids[:149:-1]
        assert shown_runs(pages, "?page=3") == ids[49::-1]
        assert shown_runs(pages, "?page=9") == []
        assert shown_runs(pages, "?page=-1x") == ids[:149:-1]

    def test_of_an_empty_folder_says_what_to_do(self, tmp_path: Path) -> None:
        assert "sidestream demo" in client_of(tmp_path).get("/").text

    def test_shows_what_has_been_written_since(self, pages: TestClient, log: Path) -> None:
        shown_runs(pages)
        new = PLAIN.replace("92f6", "aaaa")
        with open(log / "log.jsonl", "ab") as file:
            file.write(plain_run(new, minutes=20))
        assert shown_runs(pages)[0] == new

    def test_a_log_that_leads_nowhere_is_refused_at_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="no log at"):
            make_app([str(tmp_path / "nowhere")])

    def test_a_log_that_goes_away_is_told(self, pages: TestClient, log: Path) -> None:
        (log / "log.jsonl").unlink()
        log.rmdir()
        answer = pages.get("/")
        assert answer.status_code == 404
        assert "no log at" in answer.text


class TestARun:
    def test_shows_conversation_tools_sub_agent_and_result(self, pages: TestClient) -> None:
        text = pages.get(f"/runs/{SHOP}").text
        for expected in (
            "Where is my order 4711?",
            "You are the support of a bicycle shop.",
            "I look it up.",
            "{&#34;order&#34;: &#34;PP-4711&#34;}",
            "No dash.",
            "cache_miss",
            "Within days.",
            "Your bag arrives on Thursday \N{BICYCLE}.",
            "$0.0005",
            "env=test",
        ):
            assert expected in text

    def test_has_a_row_for_each_step_in_the_order_of_time(self, pages: TestClient) -> None:
        text = pages.get(f"/runs/{SHOP}").text
        rows = [part.split(" ", 2)[0] for part in text.split('<a class="row ')[1:]]
        assert rows == [
            "run",
            "request",
            "tool",
            "retry",
            "tool",
            "custom",
            "run",
            "request",
            "request",
            "final_result",
        ]

    def test_shows_errors_where_they_happened_and_at_the_top(self, pages: TestClient) -> None:
        text = pages.get(f"/runs/{FAILED}").text
        assert "The model is overloaded" in text.split('id="turns"')[1]
        assert 'aria-label="What went wrong"' in text
        assert "Have you tried" in text

    def test_names_a_failed_tool_call_once_at_the_top(self, tmp_path: Path) -> None:
        """The failed call and its error are one failure."""
        failed: dict[str, Any] = {"tool_name": "pay", "tool_call_id": "c1"}
        told = [
            (0.0, AgentStart(root_run_id="one", prompt="Pay!")),
            (0.1, ToolStart(args={}, **failed)),
            (0.2, Error(error="no money", exception_type="OSError", where="tool", **failed)),
            (0.2, ToolEnd(outcome="failed", error="no money", exception_type="OSError", **failed)),
            (0.3, Error(error="no money", exception_type="OSError", where="run")),
            ends(0.3, "error", exception_type="OSError"),
        ]
        (tmp_path / "log.jsonl").write_bytes(lines("one", told))
        html = client_of(tmp_path).get("/runs/one").text
        assert len(re.findall("data-wrong=", html)) == 2
        assert "in the run" in html

    def test_is_found_by_part_of_its_id_and_its_trace(self, pages: TestClient) -> None:
        assert pages.get("/runs/9fc2").headers["location"] == f"/runs/{FAILED}"
        assert pages.get(f"/traces/{TRACE.upper()}").headers["location"] == f"/runs/{SHOP}"

    @pytest.mark.parametrize(
        "path", ["/runs/none-such", "/traces/0123", "/runs/01a1", "/compare?run=a&run=b", "/nothing"]
    )
    def test_that_is_not_there_is_a_page_that_says_so(self, pages: TestClient, path: str) -> None:
        answer = pages.get(path)
        assert answer.status_code == 404
        assert "Not found" in answer.text

    def test_without_content_says_that_it_is_not_in_the_log(self, tmp_path: Path) -> None:
        """The policy `none` leaves nothing, `metadata` a type and a length."""
        start = AgentStart(root_run_id=PLAIN, prompt={"type": "str", "length": 12})
        told = [(0.0, start), (0.1, FinalResult(output=None)), ends(0.2)]
        (tmp_path / "bare.jsonl").write_bytes(lines(PLAIN, told))
        text = client_of(tmp_path).get(f"/runs/{PLAIN}").text
        assert "str of 12; the content itself is not in the log" in text
        assert "not in the log" in text.split("Result")[1]

    def test_with_missing_events_says_how_many(self, tmp_path: Path) -> None:
        whole = plain_run().splitlines(keepends=True)
        (tmp_path / "gap.jsonl").write_bytes(b"".join(whole[:2] + whole[3:]))
        assert "1 event of this run is not in the log" in client_of(tmp_path).get(f"/runs/{PLAIN}").text

    def test_long_texts_are_folded_and_very_long_ones_cut(self, tmp_path: Path) -> None:
        told: list[Any] = [(0.0, AgentStart(root_run_id=PLAIN, prompt="x" * 300_000)), ends(0.2)]
        (tmp_path / "long.jsonl").write_bytes(lines(PLAIN, told))
        answer = client_of(tmp_path).get(f"/runs/{PLAIN}")
        assert '<details class="long">' in answer.text
        assert "cut after 100,000 characters" in answer.text
        assert len(answer.text) < 150_000

    def test_of_very_many_steps_shows_the_first_and_offers_the_rest(self, tmp_path: Path) -> None:
        told: list[Any] = [(0.0, AgentStart(root_run_id=PLAIN))]
        told += [(0.001 * n, FinalResult(output=f"output {n}")) for n in range(1_200)]
        (tmp_path / "steps.jsonl").write_bytes(lines(PLAIN, [*told, ends(2.0)]))
        pages = client_of(tmp_path)
        text = pages.get(f"/runs/{PLAIN}").text
        assert "1,001 more steps" in text
        assert "output 1199" not in text
        assert "output 1199" in pages.get(f"/runs/{PLAIN}?steps=all").text


class TestRawEvents:
    def test_are_those_of_the_log_and_of_sub_agents(self, pages: TestClient, log: Path) -> None:
        lines = pages.get(f"/runs/{SHOP}/events.jsonl")
        assert sorted(lines.text.splitlines()) == sorted((log / "log.jsonl").read_text("utf-8").splitlines()[:21])
        assert lines.headers["content-disposition"] == f'attachment; filename="run-{SHOP}.jsonl"'

    def test_are_filtered_by_type(self, pages: TestClient) -> None:
        text = pages.get(f"/runs/{SHOP}/events?type=retry").text
        assert text.count('<li id="event-') == 1

    def test_the_one_asked_for_is_open(self, pages: TestClient) -> None:
        text = pages.get(f"/runs/{FAILED}/events?seq=4").text
        assert text.count("<details open>") == 1
        assert "The model is overloaded" in text.split("<details open>")[1]


class TestComparing:
    def test_shows_both_runs_and_what_differs(self, pages: TestClient) -> None:
        text = pages.get(f"/compare?run={PLAIN}&run={FAILED}").text
        assert "Are you open on Saturdays?" in text
        assert "My chain skips." in text
        assert "only in B" in text

    def test_timelines_have_one_scale(self, pages: TestClient) -> None:
        text = pages.get(f"/compare?run={PLAIN}&run={SHOP}").text
        assert text.count('data-seconds="1.32"') == 2

    def test_of_one_run_asks_for_two(self, pages: TestClient) -> None:
        assert pages.get(f"/compare?run={PLAIN}").status_code == 400


class TestSearch:
    def test_finds_what_was_said_across_pieces(self, pages: TestClient) -> None:
        text = pages.get("/search?q=BAG ARRIVES").text
        assert "<mark>bag arrives</mark>" in text
        assert f"/runs/{SHOP}/events?seq=12" in text

    def test_finds_a_run_by_its_id_and_its_trace(self, pages: TestClient) -> None:
        assert f'href="/runs/{FAILED}"' in pages.get("/search?q=9fc2").text
        assert f'href="/runs/{SHOP}"' in pages.get(f"/search?q={TRACE}").text

    def test_that_finds_nothing_says_so(self, pages: TestClient) -> None:
        assert "not found" in pages.get("/search?q=unicycle").text

    def test_for_nothing_reads_nothing(self, pages: TestClient) -> None:
        assert "Give a text to look for" in pages.get("/search?q=+").text


def test_a_run_without_an_agent_name_and_a_lost_one_are_shown(tmp_path: Path) -> None:
    lost = failed_run().splitlines(keepends=True)[:3]
    (tmp_path / "odd.jsonl").write_bytes(plain_run(agent=None) + b"".join(lost))
    pages = client_of(tmp_path)
    assert "This run has no end" in pages.get(f"/runs/{FAILED}").text
    assert "agent" in pages.get(f"/runs/{PLAIN}").text
