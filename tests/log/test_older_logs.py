"""Logs of every version are read for ever: files as their writers left them, which nobody generates anew.

`golden/version_1.jsonl` was written by the first commit of this project, but for its last types, `custom` and `score`.
`golden/later.jsonl` is a log of a later version: unknown fields, an unknown type, a line of schema version 2.
`golden/version_1_index.sql` is the first layout of the index, about the first file.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sidestream import log
from sidestream.events import StreamEventType, decode_line
from sidestream.log.index import database, store
from tests.support.command_line import invoke
from tests.support.log_builder import Problems, plain
from tests.support.paths import ROOT
from tests.support.web_client import client_of

GOLDEN = ROOT / "tests/log/golden"
RUNS = {
    "support-run": ("support", "completed", 4, 3, 800),
    "helper-run": ("helper", "completed", 1, 0, 200),
    "stream-run": ("streamer", "completed", 1, 0, 55),
    "left-run": ("streamer", "abandoned", 1, 0, 52),
    "broken-run": ("broken", "error", 1, 0, None),
}
"""By run: agent, outcome, requests, calls of tools, tokens."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "runs"
    place.mkdir()
    shutil.copy(GOLDEN / "version_1.jsonl", place)
    return place


def numbers(folder: Path) -> dict[str, tuple[object, ...]]:
    problems = Problems()
    runs = log.runs(folder, on_problem=problems)
    assert problems == []
    return {run.run_id: (run.agent_name, run.outcome, run.requests, run.tool_calls, run.total_tokens) for run in runs}


def test_every_line_is_an_event_and_says_what_it_said(folder: Path) -> None:
    found = set()
    for line in (folder / "version_1.jsonl").read_bytes().splitlines():
        event = decode_line(line)
        found.add(event.event_type)
        written, read = json.loads(line), plain(event)
        assert {**read, "data": {**read["data"], **written["data"]}} == read
    assert found == set(StreamEventType), "a new type of event is added to the file, not generated with the others"


def test_runs_are_those_that_were_written(folder: Path) -> None:
    assert numbers(folder) == RUNS
    runs = {run.run_id: run for run in log.runs(folder)}
    assert runs["helper-run"].parent_run_id == "support-run"
    assert [(score.name, score.value) for score in runs["support-run"].scores] == [("helpful", 0.9)]
    assert len(log.load_run(folder, "support-run").events) == 29


def test_an_index_of_an_older_layout_is_made_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WORTHWHILE", 0)
    place = folder / database.FOLDER / "index.sqlite"
    place.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(place)) as db:
        db.executescript((GOLDEN / "version_1_index.sql").read_text("utf-8"))
    place.chmod(0o600)
    for _ in range(2):  # made, and read
        assert numbers(folder) == RUNS
    with closing(sqlite3.connect(place)) as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (len(RUNS),)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("runs {}", "abandoned"),
        ("show support-run --log {}", "look_up"),
        ("stats {}", "gpt-4o-mini"),
        ("errors {}", "the line is dead"),
        ("search Monday {}", "left on Monday"),
        ("validate {}", "56 events: no problems"),
        ("diff support-run helper-run --log {}", "helper"),
        ("tail {}", "broken"),
    ],
)
def test_a_command_reads_it(folder: Path, command: str, words: str) -> None:
    done = invoke(*command.format(folder).split())
    assert done.exit_code == 0, done.output
    assert words in done.stdout


@pytest.mark.parametrize(
    ("path", "words"), [("/", "left-run"), ("/runs/support-run", "look_up"), ("/errors", "the line is dead")]
)
def test_a_page_shows_it(folder: Path, path: str, words: str) -> None:
    answer = client_of(folder).get(path)
    assert answer.status_code == 200
    assert words in answer.text


def test_a_log_of_a_later_version_is_read_for_what_is_known_of_it(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "later.jsonl", tmp_path)
    problems = Problems()
    [run] = log.runs(tmp_path, on_problem=problems)
    assert (run.agent_name, run.outcome, run.duration_seconds) == ("support", "completed", 1.0)
    assert problems.places() == [("later.jsonl", 2, "future"), ("later.jsonl", 3, "future")]
    assert run.missing == 2
