"""Selection and order of the files of a log."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from sidestream import ConfigurationError, log
from sidestream.logfiles.locks import is_locked
from sidestream_exporters.jsonl import JSONLExporter
from tests.support.log_builder import Problems, keys, lines, run_events, write

pytestmark = pytest.mark.scenario_12


def names(*paths: str | Path) -> list[str]:
    return [file.name for file in log.log_files(*paths)]


def test_files_come_in_the_order_of_their_first_event(tmp_path: Path) -> None:
    """Names and compression do not matter; files without an event come last."""
    write(tmp_path / "c.jsonl", run_events("one", minutes=1))
    write(tmp_path / "a.jsonl.gz", run_events("two", minutes=2))
    write(tmp_path / "b.jsonl", run_events("three", minutes=3))
    (tmp_path / "0.jsonl").write_bytes(b"")
    assert names(tmp_path) == ["c.jsonl", "a.jsonl.gz", "b.jsonl", "0.jsonl"]


def test_the_rotated_files_of_a_named_log_come_before_the_one_being_written(tmp_path: Path) -> None:
    exporter = JSONLExporter(tmp_path / "app.jsonl", rotate_bytes=3_000)
    exporter.start()
    for number in range(3):
        exporter.export(run_events(f"run{number}", minutes=number))
    exporter.close()
    assert len(names(tmp_path)) > 1
    assert names(tmp_path)[-1] == "app.jsonl"
    assert keys(log.read(tmp_path)) == [key for number in range(3) for key in keys(run_events(f"run{number}"))]


def test_only_log_files_count_in_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", run_events("one"))
    for name in ("a.jsonl.torn", "b.jsonl.gz.part", "notes.txt", "c.json"):
        (tmp_path / name).write_bytes(lines(run_events("two"))[0])
    (tmp_path / "folder.jsonl").mkdir()
    assert names(tmp_path) == ["a.jsonl"]


def test_a_file_that_is_there_plain_and_compressed_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", run_events("one"))
    write(tmp_path / "a.jsonl.gz", run_events("one"))
    assert names(tmp_path) == ["a.jsonl"]
    assert names(tmp_path / "a.jsonl", tmp_path / "*.gz") == ["a.jsonl"]


def test_a_file_that_is_named_may_be_called_anything(tmp_path: Path) -> None:
    write(tmp_path / "events.log", run_events("one"))
    (tmp_path / "compressed").write_bytes(gzip.compress(b"".join(lines(run_events("two")))))
    assert len(list(log.read([tmp_path / "events.log", tmp_path / "compressed"]))) == 32


def test_a_file_counts_once_however_it_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.jsonl", run_events("one"))
    monkeypatch.chdir(tmp_path)
    assert names(tmp_path, "a.jsonl", "./*.jsonl", os.path.join("..", tmp_path.name)) == ["a.jsonl"]


def test_globs_take_files_and_folders(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / f"{folder}.jsonl", run_events(folder))
    assert sorted(names(tmp_path / "*")) == ["one.jsonl", "two.jsonl"]
    assert sorted(names(tmp_path / "**" / "*.jsonl")) == ["one.jsonl", "two.jsonl"]
    assert names(tmp_path) == []


def test_a_plain_name_leads_to_the_file_that_was_compressed_since(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl.gz", run_events("one"))
    assert names(tmp_path / "a.jsonl") == ["a.jsonl.gz"]


def test_a_path_that_leads_nowhere_is_an_error_at_once(tmp_path: Path) -> None:
    for ask in (log.log_files, log.read, log.runs, log.events, log.statistics):
        with pytest.raises(ConfigurationError, match=r"no log at .*missing: give a folder"):
            ask(str(tmp_path / "missing"))


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"".join(lines(run_events("one"))))
    problems = Problems()
    assert len(list(log.read(tmp_path, on_problem=problems))) == 16
    assert problems == []
    assert len(log.load_run(tmp_path, "one").events) == 16


def test_a_file_that_vanishes_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", run_events("one"))
    problems = Problems()
    events = log.read(tmp_path, on_problem=problems)
    (tmp_path / "a.jsonl").unlink()
    assert list(events) == []
    assert problems.places() == [("a.jsonl", 0, "unreadable")]


def test_a_lock_is_seen_and_two_who_look_do_not_take_each_other_for_a_writer(tmp_path: Path) -> None:
    exporter = JSONLExporter(f"{tmp_path}/runs/")
    exporter.start()
    exporter.export(run_events("one"))
    (file,) = log.log_files(tmp_path / "runs")
    assert is_locked(file)
    exporter.close()
    with open(file, "rb") as other:
        if os.name == "posix":
            import fcntl

            fcntl.flock(other, fcntl.LOCK_SH)
        assert is_locked(file) is False
