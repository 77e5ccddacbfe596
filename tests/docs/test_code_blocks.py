"""Every block of code in README and documentation runs as it stands, page by page, from top to bottom."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, FunctionModel
from typer.testing import CliRunner

from sidestream import Sidecar
from sidestream.cli.app import app
from sidestream.testing.cassette import cassette
from sidestream.testing.pytest_plugin import sidestream_capture
from tests.support.command_line import COMMAND, PATIENCE, environment
from tests.support.event_loops import close_forgotten_loop
from tests.support.paths import ROOT

RUN_ELSEWHERE = {
    "events.md": "tests/events/test_events_page.py",
    "reading.md": "tests/log/test_reading_page.py",
}
"""Pages whose blocks are of several languages, and the tests that run them."""
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name not in RUN_ELSEWHERE),
]
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$|^<!-- run\n(.*?)^-->$", re.MULTILINE | re.DOTALL)
NOT_RUN = {"text", "yaml", "toml", "ini", "json", "promql", "sql", "dockerfile"}
"""Languages of blocks that are not run: output, configuration, and input of systems that the tests lack."""


PROGRAM = """\
from pydantic_ai import Agent

Agent("test", name="support").run_sync("Where is my refund?")
"""
"""`app.py`, for commands that start a program."""
RUN_IDS = ("b855", "f021")
"""Ends of the ids of the runs in the log, as pages name them."""


class Block(NamedTuple):
    language: str
    code: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page. `<!-- run … -->` is code that a reader does not see: a client for the server above it."""
    text = page.read_text("utf-8")
    for found in BLOCK.finditer(text):
        line = text[: found.start()].count("\n") + 2
        yield Block(found[1] or "python", found[2] or found[3], line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """In one namespace and one folder, which holds `app.py` and a log of a failed run, `b855` and `f021`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYDANTIC_AI_NO_BANNER", "1")
    (tmp_path / "app.py").write_text(PROGRAM, "utf-8")
    _write_log(tmp_path / "runs")
    namespace: dict[str, Any] = {"__name__": "page"}
    request.addfinalizer(structlog.reset_defaults)  # a page configures it
    for block in blocks(page):
        if block.language == "python":
            _run_python(block, namespace, page)
        elif block.language == "sh":
            _run_commands(block)
        else:
            assert block.language in NOT_RUN, f"{page.name}:{block.line}: nothing runs a block of {block.language}"


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], ids=lambda page: page.name)
def test_every_block_names_its_language(page: Path) -> None:
    """A fence without a language would be run by nobody."""
    fences = re.findall(r"^```(.*)$", page.read_text("utf-8"), re.MULTILINE)
    assert all(fences[::2]), "a block without a language"
    assert not any(fences[1::2])


def _unreachable(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    raise ConnectionError("no route to host")


def _write_log(folder: Path) -> None:
    with Sidecar(f"jsonl:{folder}/", tags={"tenant": "acme"}) as sidecar:
        with suppress(ConnectionError):
            sidecar.observe(Agent(FunctionModel(_unreachable), name="support")).run_sync("Where is my refund?")
        agent = sidecar.observe(Agent("test", name="support"))
        ids = [agent.run_sync("Where is my refund?").run_id for _ in RUN_IDS]
    (log,) = folder.glob("*.jsonl")
    text = log.read_text("utf-8")
    for run_id, end in zip(ids, RUN_IDS, strict=True):
        text = text.replace(run_id, run_id[: -len(end)] + end)
    log.write_text(text, "utf-8")


def _run_python(block: Block, namespace: dict[str, Any], page: Path) -> None:
    """Top-level `await` is allowed, as in a notebook; tests in the block are run with the fixture they ask for."""
    code = "\n" * (block.line - 1) + block.code
    compiled = compile(code, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    before = set(namespace)
    close_forgotten_loop()  # of a `run_sync` in an earlier block
    if compiled.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(compiled, namespace))
    else:
        exec(compiled, namespace)
    for name in set(namespace) - before:
        if name.startswith("test_") and "sidestream_cassette" in inspect.signature(namespace[name]).parameters:
            for _ in range(2):  # recorded, and answered
                with cassette(Path("cassettes") / f"{name}.jsonl") as tape:
                    namespace[name](tape)
        elif name.startswith("test_"):
            fixture = sidestream_capture.__wrapped__  # type: ignore[attr-defined]
            for capture in fixture():
                namespace[name](capture)


def _run_commands(block: Block) -> None:
    for line in block.code.splitlines():
        program, *arguments = shlex.split(line, comments=True) or [""]
        if program:
            assert program == "sidestream", f"line {block.line}: only commands of ours run here; fence others as text"
            if arguments[0] == "run":  # replaces its process by the program
                path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # for `python`
                done = subprocess.run(
                    [*COMMAND, *arguments],
                    env=environment(PATH=path),
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                )
                assert done.returncode == 0, (line, done.stderr)
                continue
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, (line, result.output)
