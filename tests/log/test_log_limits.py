"""Memory of a reader is bounded for any line, and the lines that the exporter writes are within the limits."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidestream import log
from sidestream.events import AgentStart, ToolEnd, make_event
from sidestream.log import reader
from sidestream.log.runs import search as searching
from sidestream.log.runs.search import search
from sidestream_exporters.jsonl import exporter as jsonl_exporter
from tests.support.jsonl_files import open_exporter
from tests.support.log_builder import Problems, lines, run_events, sequence, write
from tests.support.run_events import chunk

pytestmark = pytest.mark.scenario_30

MEGABYTE = 1024 * 1024


def peak_memory_of_reading(path: Path) -> int:
    """Peak memory in bytes, measured in a separate process."""
    program = """
import re, resource, sys
from sidestream import log
list(log.read(sys.argv[1], on_problem=lambda problem: print(problem.kind)))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if sys.platform == "linux":  # where `ru_maxrss` knows the peak of the process that started this one as well
    peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(peak)
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    *kinds, peak = done.stdout.split()
    assert kinds == ["huge"]
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def test_a_compressed_line_of_a_gigabyte_is_passed_over(tmp_path: Path) -> None:
    part = gzip.compress(b"x" * 64 * MEGABYTE, compresslevel=1)
    with (tmp_path / "a.jsonl.gz").open("wb") as file:
        for _ in range(16):  # a compressed file may have many members: `cat a.gz b.gz`
            file.write(part)
        file.write(gzip.compress(b"\n" + b"".join(lines(run_events("one")))))
    assert peak_memory_of_reading(tmp_path / "a.jsonl.gz") < 400 * MEGABYTE


@pytest.fixture
def bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small compressed file with a line of a hundred times the limit between two runs; the limit is 100 kB here."""
    monkeypatch.setattr(reader, "MAX_LINE", 100_000)
    monkeypatch.setattr(reader, "MAX_SKIPPED", 400_000)
    before, after = (b"".join(lines(run_events(name))) for name in ("before", "after"))
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(before + b"x" * 10_000_000 + b"\n" + after, compresslevel=1))
    return path


def test_a_compressed_file_is_not_unpacked_far_beyond_the_limit_of_a_line(
    bomb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked, chunks = [0], reader._chunks

    def counted(file: str, start: int) -> Iterator[bytes]:
        for data in chunks(file, start):
            unpacked[0] += len(data)
            yield data

    monkeypatch.setattr(reader, "_chunks", counted)
    problems = Problems()
    events = list(log.read(bomb, on_problem=problems.append))
    assert {event.run_id for event in events} == {"before"}
    assert [problem.kind for problem in problems] == ["huge"]
    assert "the rest is not read" in problems[0].message
    assert unpacked[0] < 2_000_000


def test_an_index_lists_the_runs_before_such_a_line_and_a_search_finds_them(bomb: Path) -> None:
    assert [run.run_id for run in log.runs(bomb.parent)] == ["before"]
    assert {hit.run_id for hit in log.search(bomb.parent, "Monday")} == {"before"}


def test_a_search_past_its_deadline_opens_no_further_file(bomb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*arguments: object) -> Iterator[bytes]:
        raise AssertionError("a file was read")

    monkeypatch.setattr(reader, "_chunks", opened)
    assert list(search(bomb, "Monday", deadline=0.0)) == []


@pytest.mark.parametrize("values", [b"[],", b"{},", b'"a":[],'])
def test_a_line_of_millions_of_values_is_passed_over(tmp_path: Path, values: bytes) -> None:
    """Decoded, such a line takes many times its size on disk."""
    begin, end = (b"{", b"}") if values.startswith(b'"') else (b"[", b"]")
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.write(begin + values * (30 * MEGABYTE // len(values)) + b"1" + end + b"\n")
        file.writelines(lines(run_events("one")))
    assert peak_memory_of_reading(tmp_path / "a.jsonl") < 500 * MEGABYTE


@pytest.fixture
def few_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_VALUES", 1_000)
    monkeypatch.setattr(reader, "LONG_LINE", 1_000)


@pytest.mark.parametrize("block", [100, 5_000, 1_000_000])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_lines_before_and_after_one_of_too_many_values_are_read(
    tmp_path: Path, block: int, place: str, few_values: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "BLOCK", block)
    good = lines(run_events("one"))
    at = {"first": 0, "middle": 5, "last": len(good)}[place]
    bad = b"[" + b"[]," * 5_000 + b"1]\n"
    (tmp_path / "a.jsonl").write_bytes(b"".join([*good[:at], bad, *good[at:]]))
    problems = Problems()
    assert len(list(log.read(tmp_path, on_problem=problems))) == len(good)
    assert problems.places() in ([("a.jsonl", at + 1, "huge")], [("a.jsonl", at + 1, "foreign")])
    assert problems.places() == [("a.jsonl", at + 1, "huge")] or block > len(bad)


def test_a_problem_after_a_line_of_too_many_values_has_the_number_of_its_own_line(
    tmp_path: Path, few_values: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "BLOCK", 100)
    (tmp_path / "a.jsonl").write_bytes(b"[" + b"[]," * 5_000 + b"1]\nno JSON\n")
    problems = Problems()
    assert list(log.read(tmp_path, on_problem=problems)) == []
    assert problems.places() == [("a.jsonl", 1, "huge"), ("a.jsonl", 2, "damaged")]


@pytest.mark.parametrize("block", [100, 1_000_000])
def test_commas_and_brackets_in_a_text_are_no_values(
    tmp_path: Path, block: int, few_values: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "BLOCK", block)
    text = 'a,b[c{d"e\\\\,' * 2_000
    events = [make_event(AgentStart(root_run_id="one", prompt=text), run_id="one", seq=0)]
    write(tmp_path / "a.jsonl", events)
    assert list(log.read(tmp_path)) == events


def test_an_event_that_is_too_long_for_a_line_is_shortened_so_that_it_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl_exporter, "MAX_LINE", 2_000_000)
    monkeypatch.setattr(reader, "MAX_LINE", 2_000_000)
    data = [
        ToolEnd(tool_name="t", outcome="ok", result=result) for result in ("a", "b" * 3_000_000, ["c" * 900_000] * 5)
    ]
    exporter = open_exporter(f"jsonl:{tmp_path}/runs/")
    exporter.export([make_event(each, run_id="one", seq=seq) for seq, each in enumerate(data)])
    exporter.close()
    problems = Problems()
    found = list(log.read(tmp_path / "runs", on_problem=problems))
    assert [event.seq for event in found] == [0, 1, 2]
    assert problems == []
    assert found[0].data == data[0]
    assert isinstance(found[1].data, ToolEnd)
    assert str(found[1].data.result).startswith("b" * 1_000_000)


def test_answers_that_never_end_are_searched_without_being_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "ALL_OPEN_CHUNKS", 10)
    unended = [event for number in range(30) for event in sequence([chunk("need"), chunk("le")], f"run{number}")]
    write(tmp_path / "a.jsonl", unended)
    assert len(list(search(tmp_path, "needle"))) == 30
