"""Rows of the benchmarks at their smallest, so that a change of the measured code cannot break a row unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.bench import crowd, jsonl_write, running, scrape, start_and_stop, worker
from tests.bench.report import Table
from tests.bench.subjects import SUBJECTS

SUBJECT = ["sidestream-jsonl"]


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Measure subjects in the process of the test, which is faster. The tests ignore the times."""

    def measure(table: Table, subject: str, *steps: running.Step) -> list[dict[str, Any]]:
        folder = tmp_path / subject
        folder.mkdir(exist_ok=True)
        measured = SUBJECTS[subject](folder)
        try:
            return [worker.MEASUREMENTS[name](measured, **options) for name, options in steps]
        finally:
            measured.close()

    def run(program: str) -> str:
        names: dict[str, Any] = {}
        with redirect_stdout(StringIO()) as out:
            exec(program, names)
        names["sidecar"].close()
        return out.getvalue()

    monkeypatch.setenv("PYDANTIC_AI_NO_BANNER", "1")
    monkeypatch.setattr(start_and_stop, "_run", run)
    monkeypatch.setattr(running, "measure", measure)
    monkeypatch.setattr(crowd, "measure", measure)


ROWS: dict[str, Callable[[], Table]] = {
    "2": lambda: running.tool_steps(SUBJECT, rounds=1, cases=[(2, "text")]),
    "4": lambda: running.gaps(SUBJECT, deltas=5, rounds=1, paced=1, crowds=()),
    "5": lambda: crowd.crowd(runs=2, seconds=0.02),
    "6": lambda: jsonl_write.jsonl_write(events=50, rounds=1),
    "9": lambda: scrape.scrape(agents=2, models=2, tools=2, events=50, rounds=1, idle=0.01),
    "11": lambda: start_and_stop.shutdown(rounds=1, timeout=5.0, cases=[["jsonl"]], settle=0),
}
"""Rows at their smallest. Rows 1, 7 and 8 take half a minute."""


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_measured(row: str) -> None:
    table = ROWS[row]()
    assert table.lines
    assert not [note for note in table.notes if "skipped" in note]


def test_imports_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 10, with a module of the standard library in place of pydantic-ai."""
    monkeypatch.setattr(start_and_stop, "IMPORTS", {"pydantic_ai": "import json", "sidestream": "import sidestream"})
    reference, own = start_and_stop.imports(rounds=1).lines
    assert (reference["imported"], own["imported"]) == ("pydantic_ai", "sidestream")
    assert reference["brings in"] == "none of the heavy ones"
    assert own["goal"] in ("held", "MISSED")
