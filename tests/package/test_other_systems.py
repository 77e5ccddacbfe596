"""Branches of other systems, forced: Windows' locks and processes, and systems without fork, owners or `O_NOFOLLOW`."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import typer

from sidestream.cli.commands import run as run_command
from sidestream.log import writers
from sidestream.log.forwarding import collector_process
from sidestream.logfiles import locks, opening
from sidestream.logfiles.collector_status import SETTINGS_VARIABLE
from sidestream.terminal import streams
from sidestream_exporters.collect import launching
from sidestream_exporters.jsonl import files
from sidestream_exporters.prometheus import worker_files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forces what Windows has anyway")

WITHOUT_FORK = """
import os

del os.fork, os.register_at_fork

from pydantic_ai import Agent

from sidestream import Sidecar, install, log, uninstall

with Sidecar("jsonl:runs/", "prometheus:0") as sidecar:
    sidecar.observe(Agent("test", name="support")).run_sync("Hello")
    assert sidecar.flush(30) == {}
install("jsonl:runs/")
Agent("test", name="helper").run_sync("Hello")
uninstall()
print(sorted(run.agent_name for run in log.runs("runs/")))
"""


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")


@contextmanager
def not_posix() -> Iterator[None]:
    """`os.name` of Windows. Around the call alone: `pathlib` goes by it as well, and pytest by `pathlib`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "name", "nt")
        yield


SETTINGS = {"exporters": ["otlp"], "linger": 1, "patience": 1}
FAR = 1 << 40
"""Place of the locked byte: here no file can be as long as on Windows."""


class FakeMsvcrt(ModuleType):
    """Windows' locks of bytes: one holder a file; a second one is refused."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.holders: dict[int, int] = {}
        self.places: set[int] = set()

    def locking(self, fd: int, mode: int, size: int) -> None:
        self.places.add(os.lseek(fd, 0, os.SEEK_CUR))
        file = os.fstat(fd).st_ino
        if mode == self.LK_UNLCK:
            del self.holders[file]
        elif file in self.holders:
            raise PermissionError(errno.EACCES, "Permission denied")
        else:
            self.holders[file] = fd


@pytest.fixture
def windows_locks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of locks as Windows has it, with `FakeMsvcrt` beneath."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        patch.setitem(sys.modules, "msvcrt", FakeMsvcrt())
        spec = importlib.util.spec_from_file_location("sidestream.logfiles.windows_locks", locks.__file__)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    assert module._FAR > 1 << 60, "a lock on data would shut readers out"
    monkeypatch.setattr(module, "_FAR", FAR)
    return module


def test_windows_locks_tell_a_living_writer(windows_locks: Any, tmp_path: Path) -> None:
    log, there = tmp_path / "log.jsonl", windows_locks
    log.write_bytes(b"{}\n")
    with log.open("r+b") as first, log.open("r+b") as second:
        assert there.is_locked(log) is False
        assert there.try_lock(first.fileno()) is True
        assert there.try_lock(second.fileno()) is False
        assert there.is_locked(log) is True
        there.unlock(first.fileno())
        there.lock(second.fileno())
        assert there.msvcrt.holders == {os.fstat(second.fileno()).st_ino: second.fileno()}
    assert there.msvcrt.places == {FAR}


def test_a_lock_of_windows_waits_for_its_holder(windows_locks: Any) -> None:
    answers = iter([False, False, True])
    windows_locks.try_lock = lambda fd: next(answers)
    windows_locks.lock(0)
    assert list(answers) == []


@pytest.mark.usefixtures("windows")
def test_a_file_is_closed_before_it_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows cannot remove an open file."""
    file = files.LogFile.open(str(tmp_path / "log.jsonl"))
    descriptors: list[int] = []
    monkeypatch.setattr(os, "unlink", lambda name: descriptors.append(file.fd))
    file.remove()
    assert descriptors == [-1, -1]


def test_no_process_is_asked_by_a_signal() -> None:
    """`os.kill` of Windows ends the process that it is asked about."""
    with not_posix():
        answers = [writers._is_there(2**22 + 1), worker_files._is_alive(str(2**22 + 1))]
    assert answers == [True, True]


def test_a_collector_is_detached_without_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(launching, "_open_output", lambda path: os.open(os.devnull, os.O_WRONLY))
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: asked.update(options))
    companion: Any = SimpleNamespace(log="runs/", output_path="out")
    with not_posix():
        launching.launch(sys.executable, companion, SETTINGS, 7)
    assert asked["pass_fds"] == ()
    assert asked["creationflags"] == 0x8 | 0x200, "DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP"
    assert '"lock":7' not in asked["env"][SETTINGS_VARIABLE]


@pytest.mark.usefixtures("windows")
def test_a_collector_of_windows_does_not_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    companion = SimpleNamespace(lock_collector=lambda: None)
    monkeypatch.setattr(collector_process, "Companion", lambda log: companion)
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    monkeypatch.setenv(SETTINGS_VARIABLE, json.dumps({"log": str(tmp_path), **SETTINGS}))
    assert collector_process.main() == 0, "another collector holds the lock"


@pytest.mark.usefixtures("windows")
def test_a_program_is_a_child_whose_code_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows cannot put a program in the place of the command."""
    set_handlers: list[tuple[int, object]] = []
    monkeypatch.setattr(signal, "signal", lambda *handler: set_handlers.append(handler))
    monkeypatch.setattr(subprocess, "call", lambda command, env: 3)
    monkeypatch.setattr(os, "execve", lambda *given: pytest.fail("replaced"))
    with pytest.raises(typer.Exit) as end:
        run_command._execute([sys.executable, "-c", ""], {})
    assert end.value.exit_code == 3
    assert set_handlers == [(signal.SIGINT, signal.SIG_IGN)], "Ctrl-C is for the program"


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize(("terminal", "colors"), [("", False), ("WT_SESSION", True), ("ANSICON", True)])
def test_the_old_console_of_windows_gets_no_colors(
    terminal: str, colors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "WT_SESSION", "TERM", "ANSICON", "ConEmuANSI"):
        monkeypatch.delenv(name, raising=False)
    if terminal:
        monkeypatch.setenv(terminal, "1")
    assert streams.wants_color(True) is colors


def test_a_link_is_not_followed_where_the_system_cannot_refuse_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_NO_LINKS", 0)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.close(opening.open_regular(tmp_path / "file", os.O_RDONLY))
    with pytest.raises(OSError, match="is a link") as caught:
        opening.open_regular(tmp_path / "link", os.O_RDONLY)
    assert caught.value.errno == errno.ELOOP


def test_files_have_no_owner_where_the_system_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delattr(os, "geteuid")
    os.close(opening.open_regular(tmp_path / "file", os.O_RDONLY, own=True))


def test_a_system_without_fork_observes_all_the_same(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FORK], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.stdout == "['helper', 'support']\n", done.stderr
