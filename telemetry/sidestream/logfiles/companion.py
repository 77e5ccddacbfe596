"""Folder in which the writers of a log and their collector find each other, by locks and a status file.

runs/.sidestream-collect/
    collector.lock      locked by the one collector for its whole life
    4711-1.writer       locked by a process that writes the log, for its whole life; removed by the collector
    status.json         what the collector has exported; replaced as a whole
    collector.txt       output of the collector
    otlp.json, …        checkpoint of each exporter
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from .locks import is_locked, try_lock
from .naming import SUFFIXES
from .opening import open_regular

FOLDER = ".sidestream-collect"
"""Name of the folder within the folder of the log."""
_WRITER = ".writer"


def companion_folder(log: str) -> str:
    """Path of the companion folder of the log at `log`: inside a folder, or beside a single file, one for each file."""
    is_file = log.endswith(SUFFIXES) and not os.path.isdir(log)
    return os.path.join(os.path.dirname(log), FOLDER, os.path.basename(log)) if is_file else os.path.join(log, FOLDER)


class Writers(NamedTuple):
    """State of the processes that write a log."""

    alive: bool
    """Whether any writer is alive."""
    seen: bool
    """Whether a writer is registered, or was since the last call even if it has exited by now."""


class Companion:
    """Companion folder of the log at `log`. Methods raise `OSError` unless documented otherwise."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.path = companion_folder(log)
        self.lock_path = os.path.join(self.path, "collector.lock")
        self.status_path = os.path.join(self.path, "status.json")
        self.output_path = os.path.join(self.path, "collector.txt")

    def make(self) -> None:
        """Create the folder, accessible to this user alone."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)

    # --- the collector ---

    def lock_collector(self) -> int | None:
        """Take the collector's lock; None if another collector holds it. Closing the descriptor releases it."""
        for _ in range(3):  # a process in `has_collector` holds the lock for a moment
            if self.has_collector():
                return None
            if (fd := _locked(self.lock_path)) is not None:
                return fd
            time.sleep(0.001)
        return None

    def still_holds(self, lock: int) -> bool:
        """Whether `lock` is the lock of the file now at `lock_path`: the folder may have been removed and remade."""
        return _is_at(lock, self.lock_path)

    def has_collector(self) -> bool:
        """Whether a collector is alive. Never raises; False if the system cannot tell."""
        return bool(is_locked(self.lock_path))

    # --- the writers ---

    def register_writer(self) -> int:
        """Register this process as a writer, by a lock held until the descriptor is closed or the process ends."""
        for number in range(1, 1_000):
            path = os.path.join(self.path, f"{os.getpid()}-{number}{_WRITER}")
            fd = _locked(path)
            if fd is None:
                continue
            if _is_at(fd, path):  # the collector may have removed this file between open and lock
                return fd
            os.close(fd)
        raise FileExistsError(f"{self.path}: too many writers of one process")

    def writers(self) -> Writers:
        """Check which writers are alive, and forget those that have exited. Never raises."""
        files = list(_names(self.path, (_WRITER,)))
        alive = [not _remove_unlocked(path) for path in files]
        return Writers(alive=any(alive) or any(map(is_locked, _names(self.log, SUFFIXES))), seen=bool(files))


def _locked(path: str) -> int | None:
    fd = open_regular(path, os.O_RDWR | os.O_CREAT, own=True)
    try:
        if try_lock(fd):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


def _remove_unlocked(path: str) -> bool:
    """Remove the file of an exited writer, under its lock; False if the writer is alive."""
    try:
        fd = open_regular(path, os.O_RDWR)
    except OSError:
        return True
    try:
        if not try_lock(fd):
            return False
        os.remove(path)
    except OSError:
        pass  # no locks on this file system, or read-only by now: the writer counts as exited
    finally:
        os.close(fd)
    return True


def _names(folder: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return
    yield from (os.path.join(folder, name) for name in names if name.endswith(suffixes))
