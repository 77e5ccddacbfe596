"""Liveness of writers: by locks, and by the identity of a process, independent of clocks."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sidestream import log
from sidestream.events import AgentStart, make_event
from sidestream.log import writers
from sidestream.log.writers import ELSEWHERE_SECONDS
from sidestream.recording.process import ProcessIdentity, hostname, process_identity
from tests.support.forwarded_logs import Writer
from tests.support.log_builder import write

pytestmark = [pytest.mark.scenario_21, pytest.mark.scenario_29]

NOW = time.time()


def begun(
    where: Path,
    name: str = "all.jsonl",
    *,
    pid: int | None = None,
    host: str | None = None,
    process: ProcessIdentity | None = None,
    run_id: str = "one",
) -> Path:
    """Log with a run that has started and not ended, by default in this process."""
    start = AgentStart(
        root_run_id=run_id,
        pid=os.getpid() if pid is None else pid,
        host=host or hostname(),
        process=None if process is None else str(process),
    )
    where.mkdir(exist_ok=True)
    return write(where / name, [make_event(start, run_id=run_id)])


def outcome(where: Path) -> str:
    (run,) = log.runs(where)
    return run.outcome


@pytest.fixture
def here() -> ProcessIdentity:
    identity = process_identity()
    if identity is None:
        pytest.skip("this system does not tell what identifies a process")
    return identity


def test_an_identity_is_read_as_it_is_written(here: ProcessIdentity) -> None:
    assert ProcessIdentity.parse(str(here)) == here


@pytest.mark.parametrize("text", [None, "", "a", "a/b", "a/b/", "a/b/x", "a/b/-1", "a/b/\u00b2"])
def test_an_invalid_identity_is_none(text: str | None) -> None:
    assert ProcessIdentity.parse(text) is None


def test_the_process_that_began_it_is_there(tmp_path: Path, here: ProcessIdentity) -> None:
    begun(tmp_path, process=here)
    assert outcome(tmp_path) == "running"


@pytest.mark.parametrize("step", [-86_400.0, -3.0, 3.0, 86_400.0])
def test_a_clock_that_was_set_since_does_not_matter(
    tmp_path: Path, here: ProcessIdentity, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path, process=here)
    monkeypatch.setattr(time, "time", lambda: NOW + step)
    assert outcome(tmp_path) == "running"


def test_a_number_that_another_process_has_by_now_does_not_make_it_running(
    tmp_path: Path, here: ProcessIdentity
) -> None:
    begun(tmp_path, process=here._replace(started=here.started - 1))
    assert outcome(tmp_path) == "lost"


def test_a_machine_that_was_started_anew_has_none_of_its_processes(tmp_path: Path, here: ProcessIdentity) -> None:
    begun(tmp_path, process=here._replace(boot="another"))
    assert outcome(tmp_path) == "lost"


def test_a_process_of_another_container_is_elsewhere_though_host_and_number_are_ours(
    tmp_path: Path, here: ProcessIdentity
) -> None:
    file = begun(tmp_path, process=here._replace(namespace="1"), pid=2**22 + 1)
    assert outcome(tmp_path) == "running"
    old = file.stat().st_mtime - ELSEWHERE_SECONDS - 60
    os.utime(file, (old, old))
    assert outcome(tmp_path) == "lost"


def test_a_writer_on_another_machine_counts_as_gone_when_its_file_was_still_for_long(tmp_path: Path) -> None:
    file = begun(tmp_path, pid=1, host="another machine")
    assert outcome(tmp_path) == "running"
    old = file.stat().st_mtime - ELSEWHERE_SECONDS - 60
    os.utime(file, (old, old))
    assert outcome(tmp_path) == "lost"


def test_without_an_identity_the_number_on_the_same_machine_decides(tmp_path: Path) -> None:
    begun(tmp_path / "there")
    begun(tmp_path / "gone", pid=2**22 + 1)
    assert (outcome(tmp_path / "there"), outcome(tmp_path / "gone")) == ("running", "lost")


def test_a_number_that_begins_alike_is_another_writer(tmp_path: Path) -> None:
    """The locked file belongs to process 4711, the run to process 47."""
    begun(tmp_path, "20261121T065607Z-47.jsonl", pid=47, host="another machine")
    other = Writer(tmp_path / "20261121T065607Z-4711.jsonl")
    assert outcome(tmp_path) == "lost"
    other.die()


def test_first_processes_of_two_containers_are_told_apart(tmp_path: Path, here: ProcessIdentity) -> None:
    """Both processes have PID 1 and write into one folder; one of them has ended."""
    begun(tmp_path, "20261121T065607Z-1.jsonl", pid=1, process=here._replace(namespace="1"))
    path = begun(tmp_path, "20261121T065608Z-1.jsonl", pid=1, process=here._replace(namespace="2"), run_id="two")
    other = Writer(path)
    assert {run.run_id: run.outcome for run in log.runs(tmp_path)} == {"one": "lost", "two": "running"}
    other.die()


def test_a_process_that_proc_hides_is_there_if_its_number_is(
    tmp_path: Path, here: ProcessIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path, process=here)
    monkeypatch.setattr(writers, "start_ticks", lambda pid: None)
    assert outcome(tmp_path) == "running"
