"""Export of runs as a data set for pydantic-evals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_evals import Dataset

from sidestream import Sidecar
from tests.support.command_line import invoke, mistake
from tests.support.provider_model import Says, used


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Sidecar(f"jsonl:{tmp_path}/log/", tags={"tenant": "acme"}) as sidecar:
        agent = sidecar.observe(Agent(Says([["fine", used(3, 1)]]), name="support"))
        agent.run_sync("how are you?")
        agent.run_sync("and now?")
    return tmp_path


@pytest.mark.parametrize("name", ["cases.yaml", "cases.json"])
def test_a_case_a_run(folder: Path, name: str) -> None:
    out = folder / name
    assert "2 cases in" in invoke("export", folder / "log", "--cases", "--out", out).output
    data: Dataset[Any, Any, Any] = Dataset[Any, Any, Any].from_file(out)
    assert [(case.inputs, case.expected_output) for case in data.cases] == [
        ("how are you?", "fine"),
        ("and now?", "fine"),
    ]
    metadata = data.cases[0].metadata
    assert metadata is not None
    assert metadata["agent"] == "support"
    assert metadata["tags"] == {"tenant": "acme"}
    assert metadata["total_tokens"] == 4


def test_one_run_and_what_cannot_be_written(folder: Path) -> None:
    assert "the name must end in" in mistake("export", folder / "log", "--cases", "--out", folder / "cases.csv")
    run_id = Dataset[Any, Any, Any].from_file(_exported(folder)).cases[1].name
    out = folder / "one.json"
    invoke("export", folder / "log", "--cases", "--run", run_id, "--out", out)
    assert [case.inputs for case in Dataset[Any, Any, Any].from_file(out).cases] == ["and now?"]


def _exported(folder: Path) -> Path:
    out = folder / "all.json"
    invoke("export", folder / "log", "--cases", "--out", out)
    return out
