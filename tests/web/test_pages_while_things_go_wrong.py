"""Pages of running and failed runs, of hostile text, and of logs too long to search."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidestream.events import AgentEnd, AgentStart, Error, LLMStart, Payload
from sidestream.web import finding
from tests.support.log_builder import sequence, write
from tests.support.run_events import chunk
from tests.support.web_client import client_of

TURNED = "\u202eabc\u2066\x1b[2J\x9b31m"
ESCAPED = r"\u202eabc\u2066\x1b[2J\x9b31m"


def page_of(folder: Path, *payloads: Payload, agent: str = "support") -> str:
    log = write(folder / "log.jsonl", sequence(payloads, "run-1", agent=agent))
    return client_of(log).get("/runs/run-1").text


def test_characters_that_turn_text_around_are_shown_as_what_they_are(tmp_path: Path) -> None:
    start = AgentStart(root_run_id="run-1", model=TURNED, prompt=TURNED, tags={"t": TURNED})
    text = page_of(tmp_path, start, LLMStart(request=1, model=TURNED, streaming=True), agent=TURNED)
    text += client_of(tmp_path / "log.jsonl").get("/").text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert text.count(ESCAPED) >= 5


def test_playing_cuts_text_where_its_pieces_ended_as_they_are_shown(tmp_path: Path) -> None:
    text = page_of(tmp_path, LLMStart(request=1, model="m", streaming=True), chunk("a\u202e", "bc"))
    assert r"a\u202ebc</pre>" in text
    assert '"lengths": [7, 2]' in text


def test_the_first_token_is_known_at_the_first_delta(tmp_path: Path) -> None:
    start = AgentStart(root_run_id="run-1")
    asked = LLMStart(request=1, model="m", streaming=True)
    waiting, answering = page_of(tmp_path, start, asked), page_of(tmp_path, start, asked, chunk("Hel"))
    assert re.search(r"First token</dt><dd>–<", waiting)
    assert re.search(r"First token</dt><dd>100ms<", answering)


def test_what_went_wrong_is_told_above_the_fold(tmp_path: Path) -> None:
    error = Error(where="model", exception_type="ConnectionError", error="peer closed\nthe connection")
    end = AgentEnd(outcome="error", success=False, duration_seconds=1.0, exception_type="ConnectionError")
    text = page_of(tmp_path, AgentStart(root_run_id="run-1"), error, end)
    facts = text[text.index('id="facts"') : text.index('id="timeline"')]
    assert "peer closed the connection" in facts


def test_a_second_try_leads_to_the_first(tmp_path: Path) -> None:
    tries = [AgentStart(root_run_id=f"run-{n}", attempt=n, attempt_of="run-1") for n in (1, 2)]
    for start in tries:
        write(tmp_path / f"{start.root_run_id}.jsonl", sequence([start], start.root_run_id))
    pages = client_of(tmp_path)
    for path in ("/", "/runs/run-2"):
        text = pages.get(path).text
        assert 'href="/runs/run-1" title="the first attempt at the same task">attempt 2 of <bdi>un-1' in text.replace(
            "\n", ""
        )
    assert ">attempt 1</span>" in pages.get("/runs/run-1").text


def test_a_tag_leads_to_the_runs_that_have_it(tmp_path: Path) -> None:
    text = page_of(tmp_path, AgentStart(root_run_id="run-1", tags={"tenant": "a&b"}))
    assert 'href="/?tag=tenant%3Da%26b"' in text
    assert "1 run" in client_of(tmp_path / "log.jsonl").get("/?tag=tenant%3Da%26b").text


def test_looking_ends_in_time_found_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page states that the search stopped at its time limit."""
    client = client_of(write(tmp_path / "log.jsonl", sequence([chunk("here it is")], "run-1")))
    assert "found in 1 run" in client.get("/search?q=here").text
    monkeypatch.setattr(finding, "SEARCH_SECONDS", -1.0)
    assert "not found after -1 s" in client.get("/search?q=here").text


def test_looking_shows_the_newest_runs_first_where_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "MAX_HITS", 2)
    for day in range(4):
        start = AgentStart(root_run_id=f"run-{day}", prompt=f"refund {day}")
        begun = datetime(2026, 11, 20 + day, tzinfo=UTC)
        events = [replace(event, timestamp=begun) for event in sequence([start, chunk("late")], f"run-{day}")]
        client = client_of(write(tmp_path / f"{day}.jsonl", events).parent)
    text = client.get("/search?q=refund").text
    assert "the newest 2 places" in text
    assert re.findall(r'href="/runs/(run-\d)"', text) == ["run-3", "run-2"]
