"""Pruning: old files are deleted, files being written stay, and readers and the index see the remaining files."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from sidestream import log
from sidestream.errors import ConfigurationError
from sidestream.log.index import store
from sidestream.log.pruning import prune
from sidestream_exporters.jsonl import JSONLExporter
from tests.support.command_line import invoke, mistake
from tests.support.log_builder import run_events, write

DAY = 86_400.0


@pytest.fixture(autouse=True)
def always_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WORTHWHILE", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three finished files, one, two and three days old, the middle one compressed; and a file with another name."""
    names = ["20261120T090000Z-1.jsonl", "20261121T090000Z-1.jsonl.gz", "20261122T090000Z-1.jsonl"]
    for number, name in enumerate([*names, "notes.jsonl"]):
        file = write(tmp_path / name, run_events(f"run{number}", minutes=1440 * number))
        age = time.time() - DAY * (3 - number if number < 3 else 9)
        os.utime(file, (age, age))
    return tmp_path


def ids(folder: Path) -> list[str]:
    return [run.run_id for run in log.runs(folder)]


def test_files_that_are_too_old_go_and_the_index_follows(folder: Path) -> None:
    assert len(ids(folder)) == 4
    done = prune(folder, older_than=1.5 * DAY)
    assert [(Path(each.file).name[:8], each.act) for each in done.files] == [
        ("20261120", "removed"),
        ("20261121", "removed"),
    ]
    assert ids(folder) == ["run2", "run3"]
    assert done.size == sum(file.stat().st_size for file in folder.glob("*.jsonl*"))


def test_the_oldest_go_until_the_log_is_small_enough(folder: Path) -> None:
    size = sum(file.stat().st_size for file in folder.glob("*.jsonl*"))
    assert prune(folder, max_size=size).files == []
    done = prune(folder, max_size=size - 1)
    assert [Path(each.file).name for each in done.files] == ["20261120T090000Z-1.jsonl"]
    assert prune(folder, max_size=0).size == (folder / "notes.jsonl").stat().st_size  # no dated name: the file stays


def test_content_goes_before_numbers(folder: Path) -> None:
    before = {run.run_id: (run.cost_usd, run.events) for run in log.runs(folder)}
    ages = {file.name: file.stat().st_mtime for file in folder.glob("2026*")}
    done = prune(folder, older_than=1.5 * DAY, content_first=True)
    assert [each.act for each in done.files] == ["content removed"] * 2
    assert {run.run_id: (run.cost_usd, run.events) for run in log.runs(folder)} == before
    assert [log.load_run(folder, f"run{number}").prompt for number in range(3)] == [None, None, "prompt of run2"]
    assert {file.name: file.stat().st_mtime for file in folder.glob("2026*")} == ages
    assert prune(folder, older_than=1.5 * DAY, content_first=True).files == []  # already without content
    assert not list(folder.glob("*.part"))


def test_for_size_content_goes_first_and_then_the_oldest_files(folder: Path) -> None:
    done = prune(folder, max_size=0, content_first=True)
    assert [each.act for each in done.files] == ["content removed"] * 3 + ["removed"] * 3


def test_a_trial_changes_nothing(folder: Path) -> None:
    before = {file.name: file.read_bytes() for file in folder.glob("*.jsonl*")}
    pruned = json.loads(invoke("prune", folder, "--older-than", "1d", "--dry-run", "--json").stdout)
    assert [each["act"] for each in pruned["files"]] == ["removed"] * 3 or len(pruned["files"]) == 2
    assert {file.name: file.read_bytes() for file in folder.glob("*.jsonl*")} == before


def test_a_file_that_is_being_written_stays(tmp_path: Path) -> None:
    exporter = JSONLExporter(tmp_path)
    exporter.start()
    exporter.export(run_events("one"))
    done = prune(tmp_path, max_size=0)
    assert (done.files, len(done.kept)) == ([], 1)
    exporter.export(run_events("two"))
    assert ids(tmp_path) == ["one", "two"]
    exporter.close()
    assert len(prune(tmp_path, max_size=0).files) == 1


def test_a_file_with_lines_that_cannot_be_read_keeps_its_content(folder: Path) -> None:
    file = folder / "20261120T090000Z-1.jsonl"
    with open(file, "ab") as lines:
        lines.write(b"no event\n")
    os.utime(file, (1, 1))
    before = file.read_bytes()
    assert prune(folder, older_than=2.5 * DAY, content_first=True).kept == [str(file)]
    assert file.read_bytes() == before


def test_the_command_says_what_it_did_and_what_it_cannot_mean(folder: Path) -> None:
    printed = invoke("prune", folder, "--max-size", "1kB").stdout
    assert "20261120T090000Z-1.jsonl: removed" in printed
    assert "size '1 furlong'" in mistake("prune", folder, "--max-size", "1 furlong")
    assert "give an age (30d) or a size" in mistake("prune", folder)
    with pytest.raises(ConfigurationError):
        prune(folder / "nowhere", max_size=1)
