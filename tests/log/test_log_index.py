"""The index returns the same as reading all files, whatever happened to the files, and never fails a reader."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestream import log
from sidestream.log import reader
from sidestream.log.index import database, folder, store
from sidestream.log.open_store import store_of
from sidestream.log.runs.overview import names, over_time
from tests.support.log_builder import QUICK, Problems, lines, plain, run_events, write

DATABASE = Path(database.FOLDER) / "index.sqlite"


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Index small logs too, and leave the user's cache untouched."""
    monkeypatch.setattr(store, "WORTHWHILE", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def answers(folder: Path) -> Any:
    """All results of an index: runs, problems, the events of some runs."""
    problems = Problems()
    runs = log.runs(folder, on_problem=problems)
    opened = [log.load_run(folder, run.run_id).events for run in [*runs[:1], *runs[1:][-1:]]]
    return plain([runs, sorted(problems, key=lambda problem: (problem.file, problem.line)), opened])


def answers_without_index(folder: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "WORTHWHILE", float("inf"))
        return answers(folder)


def assert_pages_are_the_list(*paths: Path) -> None:
    """Pages from the columns of the index equal pages of the sorted summaries."""
    log_store, every = store_of(paths), log.runs(paths, on_problem=Problems())
    for number, given_order in enumerate(("started", "-started", "-cost", "duration", "tokens", "first_token")):
        order = log.Order.parse(given_order)
        where = None if number < 3 else log.Filter(agents=("supp*",), outermost=number % 2 == 0)
        expected = order.sorted(run for run in every if where is None or where.matches(run))
        for offset in range(0, len(expected) + 2, 2):
            page = log_store.page(where, order, limit=3, offset=offset, on_problem=Problems())
            assert plain(page.runs) == plain(expected[offset : offset + 3])
            assert page.total == len(expected)
    assert log_store.over_time(None, bins=5) == over_time(every, 5, with_sub_agents=False)
    assert log_store.names() == names(every)


def test_a_file_may_be_called_anything_the_system_allows(tmp_path: Path) -> None:
    named, other = tmp_path / os.fsdecode(b"odd-\xff.jsonl"), tmp_path / "usual.jsonl"
    try:
        write(named, run_events("one"))
    except OSError:
        pytest.skip("file names must be UTF-8 here")
    with open(named, "ab") as file:
        file.write(b"no event\n")
    write(other, run_events("two"))
    for _ in range(2):  # first read, then from the index
        problems = Problems()
        found = {run.run_id: run.files for run in log.runs(tmp_path, on_problem=problems)}
        assert found == {"one": [str(named)], "two": [str(other)]}
        assert [problem.file for problem in problems] == [str(named)]
    assert (tmp_path / DATABASE).exists()


class Folder:
    """Log folder with all changes that can happen between two queries."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.made = 0
        self.pending: list[bytes] = []

    def files(self, suffix: str = ".jsonl") -> list[Path]:
        return sorted(file for file in self.path.iterdir() if file.name.endswith(suffix))

    def next_lines(self, count: int) -> bytes:
        while len(self.pending) < count:
            self.pending += lines(run_events(f"run{self.made:03}", minutes=self.made))
            self.made += 1
        taken, self.pending = self.pending[:count], self.pending[count:]
        return b"".join(taken)

    def append(self, count: int) -> None:
        files = self.files()
        if not files:
            return self.rotate(count)
        if (before := files[-1].read_bytes()) and not before.endswith(b"\n"):
            files[-1].write_bytes(before[: before.rfind(b"\n") + 1])  # as a writer that finds the line torn does
        with open(files[-1], "ab") as file:
            file.write(self.next_lines(count))
        return None

    def rotate(self, count: int) -> None:
        number = len(list(self.path.iterdir())) + self.made
        (self.path / f"2026{number:04}.jsonl").write_bytes(self.next_lines(count))

    def tear(self, count: int) -> None:
        if files := self.files():
            with open(files[-1], "ab") as file:
                file.write(self.next_lines(1)[:-count])

    def compress(self, at: int) -> None:
        if files := self.files():
            file = files[at % len(files)]
            file.with_suffix(".jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
            if at % 3:
                file.unlink()

    def remove(self, at: int) -> None:
        if files := [*self.files(), *self.files(".gz")]:
            files[at % len(files)].unlink()

    def replace(self, at: int) -> None:
        if files := self.files():
            files[at % len(files)].write_bytes(self.next_lines(at + 1))

    def shorten(self, at: int) -> None:
        if files := self.files():
            file = files[at % len(files)]
            os.truncate(file, file.stat().st_size * (at % 10) // 10)

    def damage(self, at: int) -> None:
        if files := self.files():
            with open(files[at % len(files)], "ab") as file:
                file.write(b"no event\n")


@settings(QUICK, max_examples=15)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["append", "append", "rotate", "tear", "compress", "remove", "replace", "shorten", "damage"]
            ),
            st.integers(1, 30),
        ),
        max_size=6,
    ),
    st.sampled_from([300, 100_000]),
    st.sampled_from([1_000, 100_000]),
)
def test_it_answers_as_reading_everything_would(acts: list[tuple[str, int]], block: int, batch: int) -> None:
    with tempfile.TemporaryDirectory() as path, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "BLOCK", block)
        patch.setattr(store, "_BATCH", batch)
        patch.setattr(folder, "_PAGE", 2)
        logs = Folder(Path(path))
        for act, number in acts:
            getattr(logs, act)(number)
            assert answers(logs.path) == answers_without_index(logs.path)
            assert_pages_are_the_list(logs.path)


def test_pages_of_some_files_and_of_several_folders_are_their_list(tmp_path: Path) -> None:
    """Only the queried files count for a run that is in other files or folders as well."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    events = [event for n in range(12) for event in run_events(f"run{n:02}", minutes=n, ended=n % 5 != 0)]
    for start in range(0, len(events), 25):
        write(here / f"{start:03}.jsonl", events[start : start + 25])
    write(there / "other.jsonl", [*events[30:60], *run_events("elsewhere", minutes=3, agent="other")])
    log.runs(here)
    files = sorted(here.glob("*.jsonl"))
    for paths in ([here], files[1:3], files[::2], [here, there], [files[2], there]):
        assert_pages_are_the_list(*paths)


def test_a_file_that_has_grown_is_read_on_from_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a.jsonl", run_events("one"))
    log.runs(tmp_path)
    starts: list[int] = []

    def watched(*args: Any, start: int = 0, **more: Any) -> Any:
        starts.append(start)
        return reader.blocks_of(*args, start=start, **more)

    monkeypatch.setattr(store, "blocks_of", watched)
    size = file.stat().st_size
    with open(file, "ab") as log_file:
        log_file.writelines(lines(run_events("two", minutes=1)))
    assert [run.run_id for run in log.runs(tmp_path)] == ["one", "two"]
    assert [run.run_id for run in log.runs(tmp_path)] == ["one", "two"]
    file.rename(tmp_path / "a")
    write(tmp_path / "a.jsonl.gz", [*run_events("one"), *run_events("two", minutes=1)])
    assert [run.run_id for run in log.runs(tmp_path)] == ["one", "two"]
    assert starts == [size]


def test_opening_a_run_reads_only_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "BLOCK", 1_000)
    write(tmp_path / "a.jsonl", [event for n in range(50) for event in run_events(f"run{n:02}", minutes=n)])
    log.runs(tmp_path)
    monkeypatch.setattr(reader, "BLOCK", 5_000)
    read = 0
    chunks = reader._chunks

    def counted(*args: Any) -> Any:
        nonlocal read
        for chunk in chunks(*args):
            read += len(chunk)
            yield chunk

    monkeypatch.setattr(reader, "_chunks", counted)
    assert len(log.load_run(tmp_path, "run25").events) == 16
    assert 0 < read < (tmp_path / "a.jsonl").stat().st_size / 5


def _ruin_bytes(database: Path) -> None:
    database.write_bytes(b"SQLite format 3\0" + b"\xff" * 5_000)


def _ruin_pages(database: Path) -> None:
    data = bytearray(database.read_bytes())
    data[4_096:] = b"\xaa" * (len(data) - 4_096)
    database.write_bytes(data)


def _ruin_parts(database: Path) -> None:
    with sqlite3.connect(database) as db:
        db.execute("UPDATE parts SET part = x'ff00'")
    db.close()


def _other_version(database: Path) -> None:
    with sqlite3.connect(database) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


def _empty(database: Path) -> None:
    database.write_bytes(b"")


@pytest.mark.parametrize("ruin", [_ruin_bytes, _ruin_pages, _ruin_parts, _other_version, _empty, Path.unlink])
def test_a_damaged_index_is_made_anew(ruin: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [event for n in range(30) for event in run_events(f"run{n}")])
    before = answers(tmp_path)
    ruin(tmp_path / DATABASE)
    assert answers(tmp_path) == before
    assert answers(tmp_path) == before
    assert (tmp_path / DATABASE).stat().st_size > 10_000


@pytest.mark.skipif(os.name != "posix", reason="modes are a matter of POSIX")
def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", run_events("one"))
    log.runs(tmp_path)
    assert stat.S_IMODE((tmp_path / database.FOLDER).stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / DATABASE).stat().st_mode) == 0o600


def test_it_holds_no_content(tmp_path: Path) -> None:
    """Deleting a log must delete all of its content."""
    write(tmp_path / "a.jsonl", run_events("one"))
    log.runs(tmp_path)
    kept = (tmp_path / DATABASE).read_bytes()
    for content in (b"prompt of", b"be brief", b"4711", b"Monday", b"day.", b"not found", b"try again"):
        assert content not in kept


def test_a_file_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", run_events("one"))
    write(tmp_path / "b.jsonl", run_events("two"))
    log.runs(tmp_path)
    (tmp_path / "a.jsonl").unlink()
    assert [run.run_id for run in log.runs(tmp_path)] == ["two"]
    assert b"one" not in (tmp_path / DATABASE).read_bytes()


def test_where_the_folder_cannot_be_written_it_is_in_the_cache(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / database.FOLDER).write_bytes(b"in the way")  # an obstacle: permissions of a folder would not stop root
    write(folder / "a.jsonl", run_events("one"))
    assert [run.run_id for run in log.runs(folder)] == ["one"]
    assert len(list((tmp_path / "cache" / "sidestream").iterdir())) == 1


def test_where_nothing_can_be_written_it_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    (tmp_path / database.FOLDER).write_bytes(b"in the way")
    write(tmp_path / "a.jsonl", run_events("one"))
    assert [run.run_id for run in log.runs(tmp_path)] == ["one"]


def test_a_small_log_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    write(tmp_path / "a.jsonl", run_events("one"))
    log.runs(tmp_path)
    assert not (tmp_path / database.FOLDER).exists()


def _ask(folder: str, results: Any) -> None:
    store.WORTHWHILE = 0
    results.put(plain(log.runs(folder)))


def test_several_processes_may_make_and_ask_it_at_once(tmp_path: Path) -> None:
    for number in range(10):
        events = [event for n in range(10) for event in run_events(f"{number}-{n}", minutes=number)]
        write(tmp_path / f"{number:02}.jsonl", events)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_ask, args=(str(tmp_path), results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=100) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert all(each == plain(log.runs(tmp_path)) for each in found)
    assert len(found[0]) == 100
