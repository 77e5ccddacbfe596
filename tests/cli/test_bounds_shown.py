"""Lower bounds are marked in every output."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sidestream.events import AgentEnd, AgentStart, LLMEnd, Usage
from tests.support.command_line import invoke
from tests.support.log_builder import sequence, write
from tests.support.web_client import client_of

pytestmark = pytest.mark.scenario_31


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Log of one run whose only request was cut off."""
    used, run_id = Usage(input_tokens=50, output_tokens=2), "run-of-one-cut-off-request"
    request = LLMEnd(
        request=1, outcome="error", duration_seconds=0.1, model="m", usage=used, usage_source="partial", cost_usd=0.02
    )
    end = AgentEnd(
        outcome="error", success=False, duration_seconds=1.0, usage=used, cost_usd=0.02, partial_requests=1
    )  # fmt: skip
    return write(tmp_path / "log.jsonl", sequence([AgentStart(root_run_id=run_id, model="m"), request, end], run_id))


@pytest.mark.parametrize(
    "command", [("runs",), ("show", "--log"), ("stats",), ("stats", "--by", "model")], ids=lambda command: command[-1]
)
def test_commands_mark_it(log: Path, command: tuple[str, ...]) -> None:
    text = invoke(*command, log).stdout
    assert text.count("≥50→2") == text.count("50→2") >= 1
    assert text.count("≥$0.02") == text.count("$0.02") >= 1


def test_a_table_has_a_column_for_it(log: Path, tmp_path: Path) -> None:
    invoke("export", log, "--out", tmp_path / "runs.csv")
    with open(tmp_path / "runs.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["usage_is_lower_bound"], row["cost_is_lower_bound"], row["partial_requests"]) == ("true", "true", "1")


@pytest.mark.parametrize("page", ["/", "/runs/run-of-one-cut-off-request"])
def test_pages_mark_it(log: Path, page: str) -> None:
    text = client_of(log).get(page).text
    assert text.count("≥$0.02") == text.count("$0.02") >= 1
