"""Several exporters of one process on one log: every event is written once."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from sidestream import log
from sidestream.events import StreamEvent
from sidestream_exporters.jsonl import JSONLExporter, one_writer
from tests.support.jsonl_files import assert_each_once, events, open_exporter, read


@pytest.mark.parametrize("place", ["runs/", "runs.jsonl"])
def test_a_run_that_two_exporters_are_given_is_written_once(tmp_path: Path, place: str) -> None:
    first, second = (open_exporter(f"jsonl:{tmp_path}/{place}") for _ in range(2))
    for start in range(0, 30, 10):
        for exporter in (first, second):
            assert exporter.export(events(10, start=start)) is None  # skipped events do not count as dropped
    first.close()
    second.close()
    assert_each_once(read(*log.log_files(tmp_path / place)), events(30))


def test_the_order_in_which_they_are_given_it_does_not_matter(tmp_path: Path) -> None:
    """The slower exporter gets the whole run after the other one was closed."""
    first, second = (open_exporter(f"jsonl:{tmp_path}/runs/") for _ in range(2))
    first.export(events(10))
    first.close()
    second.export(events(10))
    second.close()
    assert_each_once(read(tmp_path / "runs"), events(10))


def test_what_one_leaves_unwritten_the_other_goes_on_with(tmp_path: Path) -> None:
    first, second = (open_exporter(f"jsonl:{tmp_path}/runs/") for _ in range(2))
    first.export(events(5))
    second.export(events(5))
    first.close()
    second.export(events(10))
    second.close()
    assert_each_once(read(tmp_path / "runs"), events(10))


def test_each_writes_the_runs_that_only_it_is_given(tmp_path: Path) -> None:
    first, second = (open_exporter(f"jsonl:{tmp_path}/runs/") for _ in range(2))
    first.export(events(5, run_id="one"))
    second.export(events(5, run_id="two"))
    first.close()
    second.close()
    assert_each_once(read(tmp_path / "runs"), [*events(5, run_id="one"), *events(5, run_id="two")])


def test_one_after_the_other_writes_what_it_is_given(tmp_path: Path) -> None:
    """Replaying a log twice into a copy writes its events twice, as requested."""
    for _ in range(2):
        exporter = open_exporter(f"jsonl:{tmp_path}/copy/")
        exporter.export(events(3))
        exporter.close()
    assert len(read(tmp_path / "copy")) == 6


def test_an_exporter_that_was_forgotten_stands_in_nobodys_way(tmp_path: Path) -> None:
    JSONLExporter(f"{tmp_path}/runs/")
    gc.collect()
    assert str(tmp_path / "runs") not in one_writer._logs
    exporter = open_exporter(f"jsonl:{tmp_path}/runs/")
    exporter.export(events(3))
    exporter.close()
    assert_each_once(read(tmp_path / "runs"), events(3))


def test_memory_does_not_grow_with_the_number_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_writer, "MAX_RUNS", 10)
    first, second = (JSONLExporter(f"{tmp_path}/runs/") for _ in range(2))
    for number in range(100):
        for exporter in (first, second):
            exporter.export(events(1, run_id=f"run{number}"))
    assert len(one_writer._logs[str(tmp_path / "runs")]._runs) == 10
    first.close()
    second.close()
    found: list[StreamEvent] = read(tmp_path / "runs")
    assert len(found) == 100


def test_two_sidecars_of_one_program_write_a_run_once(tmp_path: Path) -> None:
    program = """
import sys
from pydantic_ai import Agent
from sidestream import Sidecar
agent = Agent("test", name="clerk")
for _ in range(2): agent = Sidecar("jsonl:" + sys.argv[1]).observe(agent)
agent.run_sync("hi")
"""
    subprocess.run([sys.executable, "-c", program, f"{tmp_path}/runs/"], check=True)
    (run,) = log.runs(tmp_path / "runs")
    assert (run.outcome, run.duplicates, run.missing) == ("completed", 0, 0)
