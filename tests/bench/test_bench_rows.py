"""Rows of the benchmarks at their smallest, so that a change of the measured code cannot break a row unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bench import crowd, jsonl_write, running, worker
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

    monkeypatch.setattr(running, "measure", measure)
    monkeypatch.setattr(crowd, "measure", measure)


ROWS: dict[str, Callable[[], Table]] = {
    "2": lambda: running.tool_steps(SUBJECT, rounds=1, cases=[(2, "text")]),
    "4": lambda: running.gaps(SUBJECT, deltas=5, rounds=1, paced=1, crowds=()),
    "5": lambda: crowd.crowd(runs=2, seconds=0.02),
    "6": lambda: jsonl_write.jsonl_write(events=50, rounds=1),
}
"""Rows that need no separate process. Rows 1, 7, 8, 10 and 11 take half a minute at their smallest."""


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_measured(row: str) -> None:
    table = ROWS[row]()
    assert table.lines
    assert not [note for note in table.notes if "skipped" in note]
