"""Following a growing log: every line is read once, even if its file is rotated or compressed meanwhile."""

from __future__ import annotations

import gzip
import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestream.events import encode_line
from sidestream.log import Problem, reader
from sidestream.log.forwarding.follow import Follower, Position
from tests.support.forwarded_logs import ids, run_of, write


def read(follower: Follower) -> list[tuple[str, int]]:
    return [each for batch in follower.poll() for each in ids(batch.events)]


def compress(file: Path) -> None:
    written = file.stat()
    part = file.with_name(file.name + ".gz.part")
    part.write_bytes(gzip.compress(file.read_bytes()))
    os.utime(part, ns=(written.st_atime_ns, written.st_mtime_ns))
    part.rename(file.with_name(file.name + ".gz"))
    file.unlink()


def test_new_lines_are_read(tmp_path: Path) -> None:
    log = tmp_path / "runs"
    follower = Follower(log)
    assert read(follower) == []
    events = run_of("a")
    write(log / "1.jsonl", events[:3])
    assert read(follower) == ids(events[:3])
    assert read(follower) == []
    write(log / "1.jsonl", events[3:])
    other = run_of("b")
    write(log / "2.jsonl", other)
    assert read(follower) == ids(events[3:]) + ids(other)


def test_the_rest_of_a_line_is_waited_for(tmp_path: Path) -> None:
    events = run_of("a")
    lines = b"".join(map(encode_line, events))
    file = tmp_path / "1.jsonl"
    problems: list[Problem] = []
    follower = Follower(tmp_path, on_problem=problems.append)
    seen: list[tuple[str, int]] = []
    for byte in range(0, len(lines), 100):
        with file.open("ab") as out:
            out.write(lines[byte : byte + 100])
        seen += read(follower)
    assert seen == ids(events)
    assert problems == []


def test_a_torn_line_that_is_moved_aside_costs_no_other(tmp_path: Path) -> None:
    events, more = run_of("a"), run_of("b")
    file = write(tmp_path / "1.jsonl", events)
    whole = file.stat().st_size
    with file.open("ab") as out:
        out.write(encode_line(more[0])[:-1])  # the whole line except its newline
    follower = Follower(tmp_path)
    assert read(follower) == ids(events)
    os.truncate(file, whole)
    write(file, more)
    assert read(follower) == ids(more)


def test_a_file_that_is_renamed_or_compressed_is_the_same_file(tmp_path: Path) -> None:
    events = run_of("a", tools=5)
    follower = Follower(tmp_path)
    write(tmp_path / "app.jsonl", events[:4])
    assert read(follower) == ids(events[:4])
    write(tmp_path / "app.jsonl", events[4:8])
    finished = (tmp_path / "app.jsonl").rename(tmp_path / "app-20261120T093000Z-1.jsonl")
    write(tmp_path / "app.jsonl", events[8:])
    compress(finished)
    assert read(follower) == ids(events[4:8]) + ids(events[8:])
    assert read(follower) == []


def test_a_copy_is_not_read_again(tmp_path: Path) -> None:
    events = run_of("a")
    write(tmp_path / "run.jsonl", events[:4])
    write(tmp_path / "backup.jsonl", events[:4])
    follower = Follower(tmp_path)
    assert read(follower) == ids(events[:4])
    write(tmp_path / "run.jsonl", events[4:])
    assert read(follower) == ids(events[4:])


def test_following_resumes_at_given_positions(tmp_path: Path) -> None:
    events = run_of("a")
    file = write(tmp_path / "1.jsonl", events[:5])
    first = Follower(tmp_path)
    read(first)
    write(file, events[5:])
    saved = msgspec.json.decode(msgspec.json.encode(first.positions), type=dict[str, Position])
    assert read(Follower(tmp_path, positions=saved)) == ids(events[5:])


def test_a_batch_counts_as_taken_once_the_next_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", run_of("a"))
    first = Follower(tmp_path)
    next(first.poll())
    assert read(Follower(tmp_path, positions=first.positions)) == ids(run_of("a"))


def test_a_larger_batch_holds_several_blocks_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "BLOCK", 500)
    events = [event for run in "abcd" for event in run_of(run)]
    write(tmp_path / "1.jsonl", events)
    write(tmp_path / "2.jsonl", run_of("e"))
    follower = Follower(tmp_path, batch=10)
    batches = [ids(batch.events) for batch in follower.poll()]
    assert [each for batch in batches for each in batch] == ids(events) + ids(run_of("e"))
    assert all(len(batch) >= 10 for batch in batches[:-2])
    assert read(Follower(tmp_path, positions=follower.positions)) == []


def test_no_event_of_a_larger_batch_counts_before_the_next_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "BLOCK", 500)
    events = [event for run in "abcd" for event in run_of(run)]
    write(tmp_path / "1.jsonl", events)
    follower = Follower(tmp_path, batch=10)
    polled = follower.poll()
    first = ids(next(polled).events)
    next(polled)
    assert read(Follower(tmp_path, positions=follower.positions)) == ids(events)[len(first) :]


def test_from_the_end_only_what_is_new_counts(tmp_path: Path) -> None:
    events = run_of("a")
    write(tmp_path / "1.jsonl", events[:3])
    follower = Follower(tmp_path, from_end=True)
    assert read(follower) == []
    write(tmp_path / "1.jsonl", events[3:])
    write(tmp_path / "2.jsonl", run_of("b"))
    assert read(follower) == ids(events[3:]) + ids(run_of("b"))


def test_a_damaged_line_is_reported_once_with_its_number(tmp_path: Path) -> None:
    problems: list[Problem] = []
    follower = Follower(tmp_path, on_problem=problems.append)
    file = write(tmp_path / "1.jsonl", run_of("a")[:2])
    read(follower)
    with file.open("ab") as out:
        out.write(b"nonsense\n")
    write(file, run_of("a")[2:])
    assert read(follower) == ids(run_of("a")[2:])
    read(follower)
    assert [(problem.line, problem.kind) for problem in problems] == [(3, "damaged")]


ACTIONS = ["write", "write", "write", "poll", "rotate", "compress", "new process", "torn"]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), actions=st.lists(st.sampled_from(ACTIONS), max_size=40))
def test_whatever_happens_each_line_is_read_once_and_in_order(seed: int, actions: list[str]) -> None:
    chance = random.Random(seed)
    with TemporaryDirectory() as folder:
        log, written, seen, fragment = Path(folder), 0, [], False
        current = log / "app.jsonl"
        follower = Follower(log)
        events = run_of("a", tools=100)
        for number, action in enumerate(actions):
            if action in ("write", "rotate") and fragment:
                data = current.read_bytes()
                os.truncate(current, data.rfind(b"\n") + 1)
                fragment = False
            match action:
                case "write":
                    count = chance.randint(1, 4)
                    write(current, events[written : written + count])
                    written += count
                case "poll":
                    seen += read(follower)
                case "rotate" if current.exists() and current.stat().st_size:
                    current.rename(log / f"app-20261120T0930{number:02}Z-1.jsonl")
                case "compress":
                    finished = list(log.glob("app-*.jsonl"))
                    if finished:
                        compress(chance.choice(finished))
                case "new process":
                    positions = msgspec.json.decode(msgspec.json.encode(follower.positions), type=dict[str, Position])
                    follower = Follower(log, positions=positions)
                case "torn" if not fragment:
                    with current.open("ab") as out:
                        out.write(encode_line(events[written])[: chance.randint(1, 60)])
                    fragment = True
        seen += read(follower)
        assert seen == ids(events[:written])
