"""Pages for finding runs: previews in the list, filters, conversations, search."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sidestream import log
from tests.support.log_builder import run_events, write
from tests.support.web_client import client_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Log of a conversation of two turns, one with a sub-agent, and of another run; the id needs URL quoting."""
    sub_agent: dict[str, Any] = {"parent_run_id": "run-one", "root_run_id": "run-one", "conversation_id": "c/1 <b>"}
    events = [
        *run_events("run-one", prompt="Where is <i>my</i> order?", conversation_id="c/1 <b>", tags={"user": "a"}),
        *run_events("run-sub", agent="billing", minutes=0.001, prompt="refund", **sub_agent),
        *run_events("run-two", prompt="And\nthe refund?", conversation_id="c/1 <b>", minutes=1, ended=False),
        *run_events("run-apart", agent="sales", model="claude", minutes=2, prompt="Which tyres?"),
    ]
    write(tmp_path / "a.jsonl", events)
    return tmp_path


@pytest.fixture
def client(folder: Path) -> TestClient:
    return client_of(folder)


class TestList:
    def test_question_and_answer(self, client: TestClient) -> None:
        """Question and answer are single escaped lines; model, outcome and conversation link to the filtered list."""
        html = client.get("/").text
        assert "Where is &lt;i&gt;my&lt;/i&gt; order?" in html
        assert "And the refund?" in html
        assert "It left on Monday." in html
        assert 'href="?model=claude"' in html
        assert 'href="?agent=sales" title="only runs of sales"' in html
        assert 'href="?outcome=lost"' in html
        assert 'href="/conversations/c/1%20%3Cb%3E"' in html

    @pytest.mark.parametrize(
        ("query", "runs"),
        [
            ("conversation=c%2F1*", {"run-one", "run-two"}),
            ("tool=look_up&agent=sales", {"run-apart"}),
            ("min_cost=0.02&outcome=completed", {"run-one", "run-apart"}),
            ("slower=1.45s", {"run-one", "run-apart"}),
            ("since=2026-11-20T09:01:30Z", {"run-apart"}),
        ],
    )
    def test_filters(self, client: TestClient, query: str, runs: set[str]) -> None:
        html = client.get(f"/?{query}").text
        assert {run for run in ("run-one", "run-two", "run-apart") if f'id="run-{run}"' in html} == runs
        assert "Clear" in html

    @pytest.mark.parametrize("path", ["/", "/errors", "/conversations", "/search"])
    def test_a_mistake_in_a_filter_is_told(self, client: TestClient, path: str) -> None:
        answer = client.get(f"{path}?q=refund&min_cost=cheap")
        assert answer.status_code == 200
        assert "write US dollars" in answer.text

    def test_ranges_of_time_are_a_click_away(self, client: TestClient) -> None:
        html = client.get("/?agent=sales&since=7d&page=2").text
        assert 'href="?agent=sales&amp;since=24h"' in html
        assert 'href="?agent=sales&amp;since=7d" aria-current="true"' in html


class TestConversations:
    def test_list(self, client: TestClient) -> None:
        """The figures cover the whole conversation; lower bounds are marked."""
        html = client.get("/conversations").text
        assert "1 conversation" in html
        assert "≥$0.09" in html
        assert client.get("/conversations?agent=sales").text.count("<tr class") == 0

    def test_one_with_its_turns_in_order(self, client: TestClient) -> None:
        html = client.get("/conversations/c%2F1%20%3Cb%3E").text
        assert html.index("my&lt;/i&gt; order?") < html.index("And the refund?")
        assert "Which tyres?" not in html
        assert "<b>" not in html

    def test_none(self, client: TestClient) -> None:
        assert client.get("/conversations/other").status_code == 404
        assert "No run here belongs" in client.get("/conversations?agent=nobody").text

    def test_a_run_leads_to_its_conversation(self, client: TestClient) -> None:
        assert 'href="/conversations/c/1%20%3Cb%3E"' in client.get("/runs/run-one").text


class TestSearch:
    def test_newest_first_with_filters(self, client: TestClient) -> None:
        html = client.get("/search?q=refund").text
        assert html.index("/runs/run-two/") < html.index("/runs/run-sub/")
        html = client.get("/search?q=refund&agent=billing").text
        assert "/runs/run-two/" not in html
        assert 'href="?q=refund" title="without this filter"' in html
        assert "choose from completed" in client.get("/search?q=refund&outcome=bad").text

    def test_names_of_tools(self, client: TestClient) -> None:
        assert "tool_name" in client.get("/search?q=look_up").text


class TestRun:
    def test_neighbours(self, client: TestClient) -> None:
        """Root runs before and after; no link at the ends of the list."""
        html = client.get("/runs/run-two").text
        assert 'href="/runs/run-one" title="previous run' in html
        assert 'href="/runs/run-apart" title="next run' in html
        assert "previous run" not in client.get("/runs/run-one").text
        assert 'href="/runs/run-two" title="next run' in client.get("/runs/run-sub").text

    def test_where_the_time_went(self, client: TestClient) -> None:
        """Shares for waiting (0.1 and 0.2 s), generating (the rest of 0.2 and 0.3 s), and tools (0.1 s)."""
        html = client.get("/runs/run-one").text
        for name, value in (("Waiting", "300ms"), ("Generating", "200ms"), ("In tools", "100ms")):
            assert f"<dt>{name}</dt><dd>{value}</dd>" in html


def test_previews_are_of_the_runs_asked_for(folder: Path) -> None:
    """A preview not found in time is missing; content that the log lacks is None."""
    found = log.previews(folder, ["run-apart", "run-none"])
    assert found == {"run-apart": log.Preview("Which tyres?", "It left on Monday.")}
    assert log.previews(folder, ["run-apart"], deadline=time.monotonic() - 1) == {}
    write(folder / "b.jsonl", run_events("run-bare", prompt={"type": "str", "length": 5})[:1])
    assert log.previews(folder, ["run-bare"]) == {"run-bare": log.Preview()}
