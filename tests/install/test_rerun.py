"""`sidestream run --rerun RUN -- program`: repetition of a logged run by an unmodified program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic_ai import Agent

from sidestream import Sidecar, log
from tests.support.command_line import COMMAND, PATIENCE, mistake
from tests.support.provider_model import Says, call

PROGRAM = """
from pydantic_ai import Agent

child = Agent("test", name="helper")
agent = Agent("test", name="clerk")

@agent.tool_plain
async def look_up(order: str) -> str:
    print("touched", order, (await child.run("help " + order)).output)
    return "sent"

print(agent.run_sync("where is it?").output)
"""


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    """Log with one run of the program's agents; returns the id of the run."""
    child = Agent(Says([["from below"]]), name="helper")
    agent = Agent(Says([[call("look_up", {"order": "7"})], ["It is sent."]]), name="clerk")

    @agent.tool_plain
    async def look_up(order: str) -> str:
        await child.run("help " + order)
        return "sent"

    with Sidecar(f"jsonl:{tmp_path}/runs/") as sidecar:
        sidecar.observe(child)
        sidecar.observe(agent).run_sync("where is it?")
    (tmp_path / "app.py").write_text(PROGRAM)
    return next(run.run_id for run in log.runs(tmp_path / "runs") if run.parent_run_id is None)


def again(folder: Path, run: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "run", "--exporter", "jsonl:again/", "--rerun", run, *options, "--", sys.executable, "app.py"]
    environment = {**os.environ, "PYDANTIC_AI_NO_BANNER": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)


def test_a_program_does_a_logged_run_again(recorded: str, tmp_path: Path) -> None:
    done = again(tmp_path, recorded[-6:])
    assert (done.returncode, done.stdout) == (0, "touched 7 from below\nIt is sent.\n"), done.stderr
    clerk, helper = sorted(log.runs(tmp_path / "again"), key=lambda run: run.agent_name or "")
    assert (clerk.model, helper.parent_run_id) == ("test", clerk.run_id)
    (tmp_path / "app.py").write_text(PROGRAM.replace("where is it", "where was it"))
    differs = again(tmp_path, recorded, "--logged-tools")
    assert differs.returncode == 1
    assert '+   "content": "where was it?"' in differs.stderr
    loose = again(tmp_path, recorded, "--logged-tools", "--loose")
    assert (loose.returncode, loose.stdout) == (0, "It is sent.\n"), loose.stderr


def test_a_run_that_is_not_there_and_options_without_one(recorded: str, tmp_path: Path) -> None:
    assert "no such run" in mistake("run", "--rerun", "ffffff", "--rerun-log", tmp_path / "runs", "python")
    assert "need --rerun RUN" in mistake("run", "--loose", "python")
