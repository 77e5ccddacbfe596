"""Logs that are cut, damaged, mixed or spread over files: readable lines are returned, others reported by place."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestream import log
from sidestream.events import decode_line
from sidestream.log import reader
from tests.support.log_builder import QUICK, Problems, keys, lines, run_events

pytestmark = pytest.mark.scenario_12

WHOLE = lines(run_events("one"))
DATA = b"".join(WHOLE)
FOREIGN = st.sampled_from(
    [
        (b'{"level": "info", "message": "hello"}', "foreign"),
        (b'{"event_type": "agent_end"}', "foreign"),
        (b'{"event_type":"llm_chunk","v":1,"seq":"x"}', "foreign"),
        (b"[1, 2, 3]", "foreign"),
        (b'"event_type"', "foreign"),
        (WHOLE[0].replace(b'"v":1', b'"v":2').strip(), "future"),
        (WHOLE[0].replace(b'"agent_start"', b'"agent_dreams"').strip(), "future"),
        (b"not JSON at all", "damaged"),
        (b"\x00\xff\xfe" * 5, "damaged"),
        (b"[" * 5_000, "damaged"),
        (WHOLE[0][:40], "damaged"),
        (WHOLE[0].strip() + WHOLE[1][:30], "damaged"),
    ]
)
"""Lines that are not events, with the kind of problem reported for each."""


@contextmanager
def file_of(data: bytes, name: str = "log.jsonl") -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield path


@settings(QUICK, max_examples=60)
@given(st.integers(0, len(DATA)))
def test_of_any_prefix_every_whole_line_is_read(size: int) -> None:
    """An incomplete last line is reported, unless only its newline is missing."""
    problems = Problems()
    with file_of(DATA[:size]) as path:
        found = list(log.read(path, on_problem=problems))
    whole = DATA[:size].count(b"\n")
    rest = DATA[:size].rpartition(b"\n")[2]
    complete = rest + b"\n" in WHOLE
    assert keys(found) == keys(run_events("one"))[: whole + complete]
    assert problems.places() == ([("log.jsonl", whole + 1, "torn")] if rest and not complete else [])


@settings(QUICK, max_examples=100)
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_byte_that_was_changed_costs_one_line_or_two(at: int, change: int) -> None:
    """A changed newline costs two lines. Every other line is read, or reported."""
    damaged = bytearray(DATA)
    damaged[at] ^= change
    line = DATA[:at].count(b"\n")
    hit = {line, line + 1} if DATA[at : at + 1] == b"\n" else {line}
    problems = Problems()
    with file_of(bytes(damaged)) as path:
        found = list(log.read(path, on_problem=problems))
    untouched = [decode_line(text) for number, text in enumerate(WHOLE) if number not in hit]
    rest = iter(found)
    assert all(event in rest for event in untouched)
    # A change within a value makes another valid event: the format has no checksum.
    assert len(found) - len(untouched) <= len(hit)
    assert len(found) - len(untouched) + len(problems) >= 1
    assert {problem.line - 1 for problem in problems} <= {line, line + 1}


@settings(QUICK, max_examples=40)
@given(st.data())
def test_lines_of_several_writers_in_any_mixture_and_files_are_all_read(data: st.DataObject) -> None:
    runs = [lines(run_events(f"run{number}")) for number in range(data.draw(st.integers(1, 4)))]
    mixed = data.draw(st.permutations([number for number, run in enumerate(runs) for _ in run]))
    rest = [iter(run) for run in runs]
    order = [next(rest[number]) for number in mixed]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=3)))
    with tempfile.TemporaryDirectory() as folder:
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(order)], strict=True)):
            (Path(folder) / f"{number}.jsonl").write_bytes(b"".join(order[start:end]))
        found = log.runs(folder)
    assert sorted(run.run_id for run in found) == sorted(f"run{number}" for number in range(len(runs)))
    assert {(run.outcome, run.events, run.missing, run.duplicates, run.cost_usd) for run in found} == {
        ("completed", len(WHOLE), 0, 0, 0.03)
    }


@settings(QUICK, max_examples=60)
@given(st.lists(st.one_of(st.just(None), FOREIGN), max_size=40), st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \n"]))
def test_lines_that_are_not_events_are_reported_one_by_one(others: list[tuple[bytes, str] | None], end: bytes) -> None:
    """Empty lines are ignored. Line numbers are those that an editor shows, for any line ending."""
    good = iter(WHOLE * 3)
    rows = [next(good).strip() if other is None else other[0] for other in others]
    number_of = (lambda row: row * 2 + 1) if end.count(b"\n") == 2 else (lambda row: row + 1)
    problems = Problems()
    with file_of(b"".join(row + end for row in rows)) as path:
        found = list(log.read(path, on_problem=problems))
        with_types = list(log.read(path, types={"agent_start", "agent_end"}))
    assert len(found) == others.count(None)
    assert problems.places() == [
        ("log.jsonl", number_of(row), other[1]) for row, other in enumerate(others) if other is not None
    ]
    assert with_types == [event for event in found if event.event_type in ("agent_start", "agent_end")]


@pytest.mark.parametrize("beside", [b"", b"damaged\n"])
def test_two_events_that_are_whole_in_one_line_are_both_read(beside: bytes) -> None:
    """One writer died just before its newline, and another kind of writer appended."""
    with file_of(WHOLE[0].strip() + WHOLE[1] + beside + WHOLE[2]) as path:
        assert [event.seq for event in log.read(path)] == [0, 1, 2]
        run = log.load_run(path, "one")
    assert [(each.event.seq, each.line) for each in run.events] == [(0, 1), (1, 1), (2, 3 if beside else 2)]


@settings(QUICK, max_examples=60)
@given(st.data())
def test_a_compressed_file_that_is_cut_off_is_read_up_to_there(data: st.DataObject) -> None:
    compressed = gzip.compress(DATA)
    size = data.draw(st.integers(0, len(compressed)))
    problems = Problems()
    with file_of(compressed[:size], "log.jsonl.gz") as path:
        found = keys(log.read(path, on_problem=problems))
    assert found == keys(run_events("one"))[: len(found)]
    if size == len(compressed):
        assert (len(found), problems) == (len(WHOLE), [])
    elif size > 1:
        assert problems.places() == [("log.jsonl.gz", len(found) + 1, "truncated")]


@settings(QUICK, max_examples=60)
@given(st.data())
def test_a_compressed_file_that_is_damaged_is_read_up_to_there(data: st.DataObject) -> None:
    compressed = bytearray(gzip.compress(DATA))
    compressed[data.draw(st.integers(10, len(compressed) - 1))] ^= data.draw(st.integers(1, 255))
    problems = Problems()
    with file_of(bytes(compressed), "log.jsonl.gz") as path:
        found = list(log.read(path, on_problem=problems))
    assert problems
    assert len(found) <= len(WHOLE) + 1


@settings(QUICK, max_examples=60)
@given(st.binary(max_size=400), st.sampled_from(["log.jsonl", "log.jsonl.gz"]))
def test_no_content_of_a_file_raises(data: bytes, name: str) -> None:
    with file_of(data, name) as path:
        list(log.read(path))
        log.runs(path)
        log.statistics(path)
        list(log.search(path, "x"))


STRANGE = [
    *(
        -1,
        0,
        2**53,
        2**70,
        -(2**70),
        1e300,
        -1e300,
        None,
        True,
        [],
        [0],
        [-5, 10**30],
        {},
        {"text": 1e300},
        "",
        "\0",
        "x",
    ),
    *("2026-11-20T09:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-12:00", "one", "call_1"),
]
"""Values that no writer of this project puts in these places."""


@settings(QUICK, max_examples=100)
@given(st.data())
def test_events_that_no_writer_of_ours_makes_do_no_harm(data: st.DataObject) -> None:
    """Any decodable event is accepted, and all queries still succeed."""
    events = [json.loads(line) for line in WHOLE]
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.sampled_from(events))
        if data.draw(st.booleans()) and isinstance(place["data"], dict) and place["data"]:
            place = place["data"]
        place[data.draw(st.sampled_from(sorted(place)))] = data.draw(st.sampled_from(STRANGE))
    text = "".join(json.dumps(event) + "\n" for event in events)
    with file_of(text.encode()) as path:
        for _ in range(2):
            found = log.runs(path)
            log.runs(path, log.Filter.parse(since="1h", agents=["*"]))
            log.statistics(path)
            list(log.search(path, "4711"))
            opened = [log.load_run(path, run.run_id) for run in found if run.run_id]
            for run in opened:
                run.messages()
                log.diff(run, opened[0])


@pytest.mark.parametrize("block", [1, 7, 100, 1_000])
def test_lines_are_read_whole_however_blocks_fall(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "BLOCK", block)
    for name, data in [("log.jsonl", DATA), ("log.jsonl.gz", gzip.compress(DATA[:900]) + gzip.compress(DATA[900:]))]:
        problems = Problems()
        with file_of(data, name) as path:
            assert keys(log.read(path, on_problem=problems)) == keys(run_events("one"))
        assert problems == []


@pytest.mark.parametrize("block", [10, 1_000, 100_000])
def test_a_line_beyond_all_bounds_is_told_and_passed_over(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "BLOCK", block)
    monkeypatch.setattr(reader, "MAX_LINE", 2_000)
    huge = json.dumps({"event_type": "custom", "text": "x" * 5_000}).encode() + b"\n"
    problems = Problems()
    with file_of(WHOLE[0] + huge + WHOLE[1] + huge[:4_000]) as path:
        found = [event.seq for event in log.read(path, on_problem=problems)]
    assert found == [0, 1]
    assert [line for _, line, _ in problems.places()] == [2, 4]
    if block < 5_000:  # a block is read as a whole, so it may be longer
        assert [kind for *_, kind in problems.places()] == ["huge", "huge"]
