"""Programs in processes of their own, plain and under `sidestream run`, and their logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

AGENT = """
    import os, sys
    from pydantic_ai import Agent
    from pydantic_ai.models.test import TestModel

    agent = Agent(TestModel(custom_output_text="hello"), name="greeter")
"""


def write(path: Path, text: str) -> Path:
    """Write a program to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), "utf-8")
    return path


def sidestream(*options: str) -> list[str]:
    """Command prefix for running a program under `sidestream run`."""
    return [sys.executable, "-c", "from sidestream.cli import main; main()", "run", *options]


def environment(**changes: str | None) -> dict[str, str]:
    """Environment of the tests without Sidestream's variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIDESTREAM_", "PYTHON"))}
    kept |= {"PYDANTIC_AI_NO_BANNER": "1", "NO_PROXY": "127.0.0.1"}
    return {name: value for name, value in (kept | changes).items() if value is not None}


def run(
    command: list[str], cwd: Path, *, env: dict[str, str] | None = None, given: str = "", code: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run `command` in `cwd` with `given` on stdin, and assert the exit code `code` (None: any)."""
    done = subprocess.run(
        command, cwd=cwd, env=env or environment(), input=given, capture_output=True, text=True, timeout=90
    )
    assert code is None or done.returncode == code, done.stderr
    return done


def events(folder: Path) -> list[dict[str, Any]]:
    """Events of all logs in `folder`."""
    lines = (line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text("utf-8").splitlines())
    return [json.loads(line) for line in lines]


def ended(folder: Path) -> list[str]:
    """Agent of each ended run, in the order of the log."""
    return [event["agent_name"] for event in events(folder) if event["event_type"] == "agent_end"]


def ended_by_process(folder: Path) -> Counter[int]:
    """Number of ended runs by process, from the process's own log file (`20261121T065607Z-4711.jsonl`)."""
    return Counter(
        {
            int(file.stem.split("-")[1]): file.read_text("utf-8").count('"event_type":"agent_end"')
            for file in folder.glob("*.jsonl")
        }
    )
