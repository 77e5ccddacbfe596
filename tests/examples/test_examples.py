"""Every example does for its user what it says, and the log tells its runs as they were."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sidestream import log
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYDANTIC_AI_NO_BANNER", "1")
    monkeypatch.delenv("MODEL", raising=False)


def play(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.parametrize(
    ("name", "shows", "runs"),
    [
        ("text.py", r"success \(no tool calls\)", ["completed", "completed"]),
        ("structured.py", r"1 so far\n(.|\n)*- a \(priority", ["completed"]),
        ("conversation.py", r"\(2 messages\)\n.*\(4 messages\)", ["completed", "completed"]),
        ("dependencies.py", "success", ["completed"]),
        ("tools.py", r"\[calling search\]\n\[calling add\]\n(.|\n)*\[add: 0\]", ["completed"]),
        ("timeout.py", "and and (.|\n)*the limit of time has passed", ["timed_out"]),
        (
            "interruption.py",
            "hung up; so far: 'Machine learning is the study of '",
            ["error"],
        ),
        ("many_at_once.py", "9 answers", ["completed"] * 9),
        ("multi_agent.py", "success", ["completed", "completed"]),
        ("own_exporter.py", r"\{'support': \d+\}", []),
        ("own_adapter.py", "Any stream will do.\nwriter completed", ["completed"]),
    ],
)
def test_example(name: str, shows: str, runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    play(name)
    assert re.search(shows, capsys.readouterr().out)
    assert [run.outcome for run in log.runs("runs/")] == runs if runs else not Path("runs").exists()


def test_the_streaming_functions(capsys: pytest.CaptureFixture[str]) -> None:
    """They are a log of their own: one line of JSON for each event."""
    play("streaming_api.py")
    out = capsys.readouterr().out
    assert "[calling read_file]" in out
    assert "read_file({'path': 'a'})\n  -> what is in a\n" in out
    assert '"agent_end"' in Path("events.jsonl").read_text().splitlines()[-1]


def test_a_conversation_has_one_id_in_the_log() -> None:
    play("conversation.py")
    assert {run.conversation_id for run in log.runs("runs/")} == {"c-42"}


def test_a_sub_agent_hangs_below_its_parent() -> None:
    play("multi_agent.py")
    runs = {run.agent_name: run for run in log.runs("runs/")}
    assert runs["researcher"].parent_run_id == runs["editor"].run_id


def test_the_chat_service_by_events_and_by_socket() -> None:
    service = play("chat_service.py")
    with TestClient(service["app"]) as client:
        answer = client.get("/chat/c-1", params={"message": "Hello"})
        assert answer.text.endswith("data: [DONE]\n\n")
        with client.websocket_connect("/ws/c-2") as socket:
            socket.send_text("Hello")
            assert socket.receive_text()
            while "done" not in socket.receive_text():
                pass
    assert {(run.conversation_id, run.outcome) for run in log.runs("runs/")} == {
        ("c-1", "completed"),
        ("c-2", "completed"),
    }


def test_every_example_is_in_the_index() -> None:
    named = set(re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text("utf-8")))
    assert named == {file.name for file in EXAMPLES.glob("*.py")}
