"""Links, pipes, devices and unreadable files in the folder of a log."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sidestream import ConfigurationError, UnreadableLogError, log
from sidestream.log.forwarding.checkpoint import Checkpoint
from sidestream.log.forwarding.follow import Follower
from sidestream.logfiles.opening import open_regular
from tests.support.log_builder import Problems, run_events, write

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="pipes, links and owners of POSIX"),
    pytest.mark.scenario_29,
]

NOBODY = 65_534


def followed(path: Path) -> list[str]:
    """Runs that a follower finds; fails if the follower blocks."""
    found: list[str] = []
    thread = threading.Thread(
        target=lambda: found.extend(event.run_id for batch in Follower(path).poll() for event in batch.events),
        daemon=True,
    )
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "a follower waits for what never comes"
    return sorted(set(found))


@pytest.mark.parametrize("what", ["pipe", "device", "link", "link to nothing", "folder"])
def test_only_regular_files_of_a_folder_are_read(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    write(folder / "b.jsonl", run_events("one"))
    odd = folder / "a.jsonl"
    match what:
        case "pipe":
            os.mkfifo(odd)
        case "device":
            odd.symlink_to("/dev/zero")
        case "link":
            odd.symlink_to(write(tmp_path / "elsewhere.txt", run_events("two")))
        case "link to nothing":
            odd.symlink_to(tmp_path / "nothing")
        case _:
            odd.mkdir()
    assert [file.name for file in log.log_files(folder)] == ["b.jsonl"]
    assert [file.name for file in log.log_files(f"{folder}/*.jsonl")] == ["b.jsonl"]
    assert followed(folder) == ["one"]


def test_a_link_that_is_named_itself_is_followed(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(write(tmp_path / "a.jsonl", run_events("one")))
    assert [run.run_id for run in log.runs(tmp_path / "latest")] == ["one"]


def test_a_pipe_that_is_named_is_a_clear_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="a pipe or a device"):
        log.log_files(tmp_path / "pipe")


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_opening_never_waits_for_the_other_end_of_a_pipe(tmp_path: Path, flags: int) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "pipe", flags)


def test_a_checkpoint_is_not_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "checkpoint.lock").symlink_to(victim)
    with pytest.raises(ConfigurationError, match="link"):
        Checkpoint(tmp_path / "checkpoint", dict)
    (tmp_path / "checkpoint.lock").unlink()
    checkpoint = Checkpoint(tmp_path / "checkpoint", dict)
    (tmp_path / "checkpoint.part").symlink_to(victim)
    with pytest.raises(OSError, match="link"):
        checkpoint.save({})
    checkpoint.close()
    assert victim.read_text() == "precious"


# --- unreadable files ----------------------------------------------------------------------------------------------


@pytest.fixture
def readable_by_all() -> Iterator[Path]:
    """Folder that every user may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Drop root privileges within the block, so that file permissions apply."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


READERS: list[Callable[..., Any]] = [
    log.log_files,
    lambda path: list(log.read(path)),
    lambda path: list(log.events(path)),
    lambda path: list(log.search(path, "hello")),
    lambda path: log.load_run(path, "one"),
    log.runs,
    log.statistics,
]


def forbid(path: Path) -> Path:
    path.chmod(0)
    return path


@pytest.mark.parametrize("reader", READERS)
def test_a_folder_that_may_not_be_read_is_one_clear_error(readable_by_all: Path, reader: Callable[..., Any]) -> None:
    folder = readable_by_all / "runs"
    folder.mkdir()
    forbid(folder)
    with unprivileged():
        with pytest.raises(UnreadableLogError, match=r"cannot read .*runs: Permission denied"):
            reader(folder)


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_named_and_may_not_be_read_is_one_clear_error(
    readable_by_all: Path, reader: Callable[..., Any]
) -> None:
    file = forbid(write(readable_by_all / "a.jsonl", run_events("one")))
    with unprivileged():
        with pytest.raises(UnreadableLogError, match=r"cannot read .*a.jsonl: Permission denied"):
            reader(file)


@pytest.mark.parametrize("reader", [log.runs, log.statistics, log.read, log.events])
def test_a_file_of_a_folder_that_may_not_be_read_is_told_and_the_others_are_read(
    readable_by_all: Path, reader: Callable[..., Any]
) -> None:
    write(readable_by_all / "a.jsonl", run_events("one")).chmod(0o644)
    forbid(write(readable_by_all / "b.jsonl", run_events("two")))
    with unprivileged():
        problems = Problems()
        found = reader(readable_by_all, on_problem=problems)
        if reader in (log.read, log.events):
            assert len(list(found)) == len(run_events("one"))
        assert problems.places() == [("b.jsonl", 0, "unreadable")]
        with pytest.raises(UnreadableLogError, match=r"b.jsonl: Permission denied"):
            list(reader(readable_by_all))


def test_a_follower_tells_what_it_may_not_read_and_goes_on(readable_by_all: Path) -> None:
    write(readable_by_all / "a.jsonl", run_events("one")).chmod(0o644)
    forbid(write(readable_by_all / "b.jsonl", run_events("two")))
    with unprivileged():
        problems = Problems()
        batches = list(Follower(readable_by_all, on_problem=problems).poll())
        assert {event.run_id for batch in batches for event in batch.events} == {"one"}
        assert problems.places() == [("b.jsonl", 0, "unreadable")]
