"""Groups of errors: in Python, as a command, and as a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidestream import log
from sidestream.events import Error, Frame, Raised, StreamEvent
from sidestream.log.runs.errors import normalized
from tests.support.command_line import invoke
from tests.support.log_builder import run_events, sequence, write
from tests.support.web_client import client_of


def failing(run_id: str, message: str, minutes: float, function: str = "fetch") -> list[StreamEvent]:
    frames = [
        Frame(file="/app/shop.py", line=7, function=function),
        Frame(file="httpx/_client.py", line=9, function="send"),
    ]
    behind = [Raised(link="cause", exception_type="OSError", error="refused", frames=frames)]
    error = Error(error=message, exception_type="httpx.ConnectError", where="run", frames=frames, chain=behind)
    events = run_events(run_id, minutes=minutes)
    return sequence([*(event.data for event in events[:-1]), error, events[-1].data], run_id, minutes=minutes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    events = [
        *failing("run-a", "order 4711 of 2f6e0c1a-0000-4000-8000-000000000001 timed out after 3.5 s", 0),
        *failing("run-b", "order 99 of 2f6e0c1a-0000-4000-8000-000000000002 timed out after 12 s", 10),
        *failing("run-c", "order 1 of 2f6e0c1a-0000-4000-8000-000000000003 timed out after 1 s", 5, "other"),
    ]
    write(tmp_path / "a.jsonl", events)
    return tmp_path


def test_errors_of_one_kind_are_together(folder: Path) -> None:
    found = [each for each in log.errors(folder) if each.where == "run"]
    assert [(each.place, each.count, each.runs, each.last_run_id) for each in found] == [
        ("/app/shop.py in fetch", 2, 2, "run-b"),
        ("/app/shop.py in other", 1, 1, "run-c"),
    ]
    assert found[0].message == "order <n> of <id> timed out after <n> s"
    assert found[0].last_message is not None
    assert found[0].last_message.startswith("order 99 ")
    assert found[0].first < found[0].last
    only = log.errors(folder, log.Filter.parse(since="2026-11-20T09:08+00:00"))
    assert sum(each.count for each in only if each.where == "run") == 1


@pytest.mark.parametrize(
    ("message", "same"),
    [
        ("at 0x7f3a2b", "at <address>"),
        ("GET https://x.example/a?b=1 failed", "GET <url> failed"),
        ("request req_011CSHoEeqs5C35K2UUqR7Fy", "request <id>"),
        ("the word internationalization stays", "the word internationalization stays"),
    ],
)
def test_what_differs_each_time_has_a_name(message: str, same: str) -> None:
    assert normalized(message) == same


def test_the_command_and_the_page(folder: Path) -> None:
    done = invoke("errors", folder)
    assert "ConnectError" in done.stdout
    assert "order <n> of <id> timed out" in done.stdout
    assert "order 1 of 2f6e0c1a" in done.stdout, "a single error has its own text"
    assert json.loads(invoke("errors", folder, "--json").stdout)[0]["count"] == 2
    page = client_of(folder).get("/errors").text
    assert "2 times in 2 runs" in page
    assert "order 99 of" in page


def test_a_log_without_errors(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", sequence([event.data for event in run_events("r") if event.event_type != "error"], "r"))
    done = invoke("errors", tmp_path, code=1)
    assert "no error in this log" in done.stderr
    assert invoke("errors", tmp_path, "--json").stdout.strip() == "[]"


def test_show_and_the_page_have_the_traceback(folder: Path) -> None:
    folded = invoke("show", "run-a", "--log", folder).stdout
    assert "at: /app/shop.py:7 in fetch" in folded
    whole = invoke("show", "run-a", "--log", folder, "--full").stdout
    assert 'File "httpx/_client.py", line 9, in send' in whole
    assert "raised from:" in whole
    page = client_of(folder).get("/runs/run-a").text
    assert "Traceback" in page
    assert "OSError: refused" in page
