"""Folder by which the writers of a log and the collector beside them find each other, with locks as everywhere.

runs/.sidestream-collect/
    collector.lock      locked by the one collector, for as long as it lives
    4711-1.writer       locked by a process that writes the log, for as long as it lives; removed by the collector
    status.json         what the collector has exported; replaced as a whole
    collector.txt       what the collector says
    otlp.json, …        how far each exporter has come
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
"""Folder within that of the log."""
_WRITER = ".writer"


def companion_folder(log: str) -> str:
    """The folder for the log at `log`: a folder's own, and another one for each file that is a log by itself."""
    is_file = log.endswith(SUFFIXES) and not os.path.isdir(log)
    return os.path.join(os.path.dirname(log), FOLDER, os.path.basename(log)) if is_file else os.path.join(log, FOLDER)


class Writers(NamedTuple):
    """The processes that write a log."""

    alive: bool
    """Whether one of them lives."""
    seen: bool
    """Whether any was there since the last look, be it gone by now."""


class Companion:
    """The folder at `path` for the log at `log`. Methods raise `OSError` where nothing else is said."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.path = companion_folder(log)
        self.lock_path = os.path.join(self.path, "collector.lock")
        self.status_path = os.path.join(self.path, "status.json")
        self.output_path = os.path.join(self.path, "collector.txt")

    def make(self) -> None:
        """Make the folder, for this user alone."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)

    # --- the collector ---

    def lock_collector(self) -> int | None:
        """Descriptor of the collector's lock; None where a collector has it. Closing the descriptor lets go."""
        for _ in range(3):  # whoever looks whether it is locked holds it for a moment
            if self.has_collector():
                return None
            if (fd := _locked(self.lock_path)) is not None:
                return fd
            time.sleep(0.001)
        return None

    def still_holds(self, lock: int) -> bool:
        """Whether `lock` is that of the file that others look at: the folder may have been removed, and made again."""
        return _is_at(lock, self.lock_path)

    def has_collector(self) -> bool:
        """Whether a collector lives. Never raises; False where the system cannot tell."""
        return bool(is_locked(self.lock_path))

    # --- the writers ---

    def register_writer(self) -> int:
        """Descriptor whose lock makes this process known as a writer, until it is closed or the process ends."""
        for number in range(1, 1_000):
            path = os.path.join(self.path, f"{os.getpid()}-{number}{_WRITER}")
            fd = _locked(path)
            if fd is None:
                continue
            if _is_at(fd, path):  # the collector may have removed the file of another that is gone
                return fd
            os.close(fd)
        raise FileExistsError(f"{self.path}: too many writers of one process")

    def writers(self) -> Writers:
        """The processes that write the log. Those that are gone are forgotten with this call. Never raises."""
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
    """Remove the file of a writer that is gone, under its lock; False where the writer lives."""
    try:
        fd = open_regular(path, os.O_RDWR)
    except OSError:
        return True
    try:
        if not try_lock(fd):
            return False
        os.remove(path)
    except OSError:
        pass  # without locks, or read-only by now: it counts as gone all the same
    finally:
        os.close(fd)
    return True


def _names(folder: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return
    yield from (os.path.join(folder, name) for name in names if name.endswith(suffixes))
