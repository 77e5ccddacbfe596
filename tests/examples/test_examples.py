"""Every example does for its user what it says, and the log tells its runs as they were."""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from fastapi.testclient import TestClient
from nbclient import NotebookClient

from sidestream import log
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYDANTIC_AI_NO_BANNER", "1")
    monkeypatch.delenv("MODEL", raising=False)
    monkeypatch.syspath_prepend(EXAMPLES)


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
        ("timeout.py", "and and (.|\n)*timed out", ["timed_out"]),
        (
            "interruption.py",
            "hung up; so far: 'Machine learning is the study of '",
            ["error"],
        ),
        ("many_at_once.py", "9 answers", ["completed"] * 9),
        ("multi_agent.py", "success", ["completed", "completed"]),
        (
            "buffering.py",
            r"[1-9] updates of the page instead of 23\n- Streams come in small pieces\.\n",
            ["completed"] * 2,
        ),
        ("progress.py", r"Thinking …\n\[10\d characters\]\n(.|\n)*Done: 472 characters, 64 tokens", ["completed"]),
        ("partial_validation.py", r"so far: name\n(.|\n)*so far: name, age, bio\n\{'name': 'John'", ["completed"]),
        ("union.py", r"XS 42 for \$199.00\nnothing: No flights to the moon.", ["completed"] * 2),
        ("code_generator.py", r"^import httpx\n\n\ndef fetch(.|\n)*needs httpx", ["completed"]),
        (
            "news_summary.py",
            r"Streams found in the Alps: 2 points\n- There are many.\n(.|\n)*nature, good",
            ["completed"],
        ),
        (
            "retries.py",
            r"attempt 2: the provider hung up\nAt the third attempt.\n(.|\n)*try 3 of \w{4}: completed",
            ["error", "error", "completed"],
        ),
        ("scores.py", r"\{'helpful': False\}: \['that was not my question'\]", ["completed", "completed"]),
        (
            "run_again.py",
            r"at run_again.py in price_of\nagain: KeyError\('lamp'\)\nmended: run .* has 1 request in the log",
            ["error"],
        ),
        (
            "what_was_sent.py",
            r"response text +success \(no tool calls\)\nrequest +user-prompt +And the other(.|\n)*run: 1 of 3 messages",
            ["completed"] * 2,
        ),
        ("rich_cli.py", "There are three files(.|\n)*done in", []),
        ("streaming_patterns.py", r"tool_end: 1\n(.|\n)*the slow client got \d+ events\ntimed out", []),
        ("own_exporter.py", r"\{'support': \d+\}", []),
        ("own_adapter.py", "Any stream will do.\nwriter completed", ["completed"]),
    ],
)
def test_example(name: str, shows: str, runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    play(name)
    assert re.search(shows, capsys.readouterr().out)
    assert [run.outcome for run in log.runs("runs/")] == runs if runs else not Path("runs").exists()


def test_the_streaming_functions(capsys: pytest.CaptureFixture[str]) -> None:
    """The printed events are a log: one line of JSON for each event."""
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


def test_client_events_are_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    play("client_events.py")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["start", "tool_start", "tool_end", "text", "text", "text", "end"]
    assert "".join(event.get("text", "") for event in events) == "Take an umbrella."


def test_a_tool_of_an_mcp_server_is_a_tool_call_of_the_run() -> None:
    command = [sys.executable, str(EXAMPLES / "mcp_tools.py")]
    shown = subprocess.run(command, capture_output=True, timeout=90)
    assert shown.stdout.startswith(b"The file is there."), shown.stderr.decode()
    [run] = log.runs("runs/")
    assert (run.tool_calls, run.failed_tool_calls) == (1, 0)


def test_the_chat_service_by_events_and_by_socket() -> None:
    service = play("chat_service.py")
    with TestClient(service["app"]) as client:
        answer = client.get("/chat/c-1", params={"message": "Hello"})
        assert answer.text.startswith("event: start\n")
        assert answer.text.endswith("data: [DONE]\n\n")
        assert client.get("/chat/c-1", params={"message": "Hello", "agent": "nobody"}).status_code == 404
        with client.websocket_connect("/ws/c-1") as socket:
            socket.send_text("Hello again")
            received = [socket.receive_json()]
            while "type" not in received[-1]:
                received.append(socket.receive_json())
        assert received[-1] == {"type": "done"}
    first, second = log.runs("runs/")
    assert [(run.conversation_id, run.outcome) for run in (first, second)] == [("c-1", "completed")] * 2
    assert len(service["sessions"].history("c-1")) == 4


def test_the_chat_service_sends_heartbeats_while_the_model_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTBEAT_SECONDS", "0.02")
    service = play("chat_service.py")

    async def slow() -> AsyncIterator[str]:
        yield "first"
        await asyncio.sleep(0.2)
        yield "second"

    async def received() -> list[str | None]:
        return [text async for text in service["with_heartbeats"](slow())]

    texts = asyncio.run(received())
    assert None in texts
    assert [text for text in texts if text] == ["first", "second"]


def test_a_client_of_the_chat_service_that_leaves_ends_its_run() -> None:
    service = play("chat_service.py")

    async def leave() -> None:
        answers = service["with_heartbeats"](service["answer"]("helper", "c-1", "Hello"))
        await anext(answers)
        await answers.aclose()

    asyncio.run(leave())
    service["sidecar"].close()
    [run] = log.runs("runs/")
    assert run.outcome in ("cancelled", "abandoned")


@pytest.mark.scenario_23
@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs fork")
def test_the_chat_service_under_gunicorn() -> None:
    """Told to stop while answering, a worker finishes, and the run is in the log as it ended."""
    command = [sys.executable, "-m", "gunicorn", "-c", str(EXAMPLES / "gunicorn_conf.py"), "chat_service:app"]
    env = {**os.environ, "BIND": "127.0.0.1:0", "WORKERS": "1", "PYTHONPATH": str(EXAMPLES)}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = ""
        try:
            while "Application startup complete" not in said:
                line = server.stderr.readline()
                assert line, said
                said += line
            [port] = re.findall(r"Listening at: http://127.0.0.1:(\d+)", said)
            url = f"http://127.0.0.1:{port}/chat/c-1?message=Hello"
            with urllib.request.urlopen(url, timeout=30) as response:
                server.terminate()
                assert response.read().endswith(b"[DONE]\n\n")
            server.stderr.read()
            assert server.wait(60) == 0
        finally:
            server.kill()
    assert [run.outcome for run in log.runs("runs/")] == ["completed"]


@pytest.mark.skipif(sys.platform == "win32", reason="the worker's pool needs fork")
def test_an_agent_in_a_celery_worker() -> None:
    for folder in ("queue", "control", "results"):
        Path(folder).mkdir()
    env = {**os.environ, "PYTHONPATH": str(EXAMPLES)}
    worker = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "celery_task",
        "worker",
        "-c",
        "1",
        "--without-gossip",  # of workers among each other: there is one
        "--without-mingle",
    ]
    with subprocess.Popen(worker, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            asked = subprocess.run(
                [sys.executable, EXAMPLES / "celery_task.py"], env=env, capture_output=True, timeout=90
            )
            assert b"success" in asked.stdout, asked.stderr.decode()
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert [(run.outcome, run.tags) for run in log.runs("runs/")] == [("completed", {"queue": "questions"})]


def test_a_workflow_that_is_taken_up_by_another_process_is_one_run() -> None:
    """Killed in its tool and replayed: neither its first request nor its tool call is counted twice."""
    env = {**os.environ, "PYTHONPATH": str(EXAMPLES)}
    shown = subprocess.run(
        [sys.executable, EXAMPLES / "durable_workflow.py"], env=env, capture_output=True, timeout=120
    )
    assert b"completed, 2 requests, 1 tool call" in shown.stdout, shown.stderr.decode()
    assert len(list(Path("runs").glob("*.jsonl"))) == 2
    assert [(model.name, model.count) for model in log.statistics("runs/").by_model] == [("test", 2)]


def test_the_notebook() -> None:
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", 4)
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    [_, run, told] = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "completed" in "".join(output.get("text", "") for output in run.outputs)
    assert "<td>analyst</td>" in told.outputs[0]["data"]["text/html"]


def test_the_tests_with_pytest() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "test_with_pytest.py")]
    assert subprocess.run(command, capture_output=True, timeout=90).returncode == 0


def test_every_example_is_in_the_index() -> None:
    named = set(re.findall(r"\]\((\w+\.(?:py|ipynb))\)", (EXAMPLES / "README.md").read_text("utf-8")))
    assert named == {file.name for pattern in ("*.py", "*.ipynb") for file in EXAMPLES.glob(pattern)}
