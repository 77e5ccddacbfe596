"""The files of a JSONL log: their names, their locks, and what is done when a writer died or is done with one.

Three facts carry everything here. A whole file ends in a newline, so what stands after the last one was torn off by
a killed writer. A file that is being written is locked by its writer, so a file that can be locked has none. And a
path and an open file belong together only while both show the same inode.
"""

from __future__ import annotations

import os
import re
import sys
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from sidestream.diagnostics import warn, warn_once
from sidestream.logfiles.locks import lock, try_lock, unlock
from sidestream.logfiles.naming import GZIP_PART_SUFFIX, STEM, TORN_SUFFIX, first_timestamp
from sidestream.logfiles.opening import open_regular

BLOCK = 256 * 1024
"""Bytes moved or compressed at a time."""

_FLAGS = os.O_RDWR | os.O_APPEND


# --- one open file -------------------------------------------------------------------------------------------------


class LogFile:
    """A log file open for appending. Every method may raise `OSError`."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        here = os.fstat(fd)
        self._inode = (here.st_ino, here.st_dev)
        self.size = here.st_size
        """Bytes, as of the last look (`is_current`) or append."""
        self._whole = 0
        """A size at which the file ended in a newline: nothing to heal while it is no other."""
        self.begun = first_timestamp(_read_at(fd, 0, 4096)) or time.time()
        """Unix time of the first line, or of now where there is none yet."""

    @classmethod
    def open(cls, path: str, *, new: bool = False) -> LogFile:
        """Open `path`, our own file; made with mode 0600 where there is none. `new`: `FileExistsError` where it is."""
        return cls(path, open_regular(path, _FLAGS | os.O_CREAT | (os.O_EXCL if new else 0), own=True))

    @classmethod
    def claim(cls, path: str) -> LogFile | None:
        """Open and lock `path`; None where a living writer has it, or where it is not ours. Never raises."""
        try:
            file = cls(path, open_regular(path, _FLAGS, own=True))
        except OSError:
            return None
        with suppress(OSError):
            if try_lock(file.fd) and file.is_current():
                return file
        file.close()
        return None

    def lock(self) -> None:
        """Wait until no other process (or exporter) writes here."""
        try:
            lock(self.fd)
        except OSError as error:  # some network file systems
            reason = error.strerror or str(error)
            warn_once("file system has no locks, other writers are not kept apart", reason, reason=reason)

    def unlock(self) -> None:
        with suppress(OSError):
            unlock(self.fd)

    def is_current(self) -> bool:
        """Whether the path still leads to this file, which others may have rotated, renamed or removed."""
        try:
            there = os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        self.size = there.st_size
        return (there.st_ino, there.st_dev) == self._inode

    def append(self, pieces: Sequence[bytes]) -> None:
        """Write all of `pieces`, or nothing: after a failure the file is as long as before."""
        before = self.size
        try:
            for piece in pieces:
                done = os.write(self.fd, piece)
                while done < len(piece):
                    done += os.write(self.fd, memoryview(piece)[done:])
        except BaseException:
            self.cut(before)
            raise
        self.size = self._whole = before + sum(map(len, pieces))

    def cut(self, size: int) -> None:
        """Shorten the file to `size` bytes. Where even that fails, `heal` finds the fragment before the next line."""
        with suppress(OSError):
            os.ftruncate(self.fd, size)

    def heal(self) -> None:
        """Move what stands after the last newline into `<path>.torn`, so that the next line is not glued to it."""
        size = self.size
        if size == self._whole:
            return
        if size == 0 or _read_at(self.fd, size - 1, 1) == b"\n":
            self._whole = size
            return
        whole = _end_of_last_line(self.fd, size)
        torn = open_regular(self.path + TORN_SUFFIX, _FLAGS | os.O_CREAT, own=True)
        try:
            for start in range(whole, size, BLOCK):
                _write_all(torn, _read_at(self.fd, start, min(BLOCK, size - start)))
            _write_all(torn, b"\n")
        finally:
            os.close(torn)
        os.ftruncate(self.fd, whole)
        self.size = self._whole = whole
        warn("torn line moved aside", file=self.path, to=self.path + TORN_SUFFIX, bytes=size - whole)

    def sync(self) -> None:
        os.fsync(self.fd)

    def close(self) -> None:
        """Let go, and so unlock. The data has been with the operating system since each write returned."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)

    def remove(self, *, fragments: bool = True) -> None:
        """Remove the file, and the fragments beside it, and let go."""
        if sys.platform == "win32":
            self.close()  # Windows removes no open file
        # Elsewhere under the lock: a writer that has just made this file and waits for the lock sees it go, and
        # nobody takes a file whose compressed form has just got its name for one that is still to be compressed.
        for name in (self.path, self.path.removesuffix(".gz") + TORN_SUFFIX)[: 2 if fragments else 1]:
            with suppress(OSError):
                os.unlink(name)
        self.close()


def _read_at(fd: int, offset: int, size: int) -> bytes:
    os.lseek(fd, offset, os.SEEK_SET)  # O_APPEND writes at the end wherever this is; Windows has no pread
    return os.read(fd, size)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _end_of_last_line(fd: int, size: int) -> int:
    end = size
    while end > 0:
        start = max(0, end - BLOCK)
        newline = _read_at(fd, start, end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def sync_folder(path: str) -> None:
    """Make the names in the folder of `path` survive a power cut, where the system can."""
    with suppress(OSError):  # Windows opens no folders
        fd = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


# --- where the lines go --------------------------------------------------------------------------------------------


class Log(ABC):
    """A path to write to: which file is the one just now, and which of its neighbours belong to this log."""

    def __init__(self, path: str, folder: str, prefix: str) -> None:
        self.path = path
        self.folder = folder
        self.prefix = prefix
        self.file: LogFile | None = None
        self._stem, self._count = "", 0
        self._finished_name = re.compile(re.escape(prefix) + STEM + r"(\.gz)?")

    @abstractmethod
    def acquire(self) -> LogFile:
        """The file to append to: locked, current, and whole. Raises `OSError`."""

    @abstractmethod
    def release(self) -> None:
        """After the append: let others write where they share the file."""

    @abstractmethod
    def rotate(self, file: LogFile) -> str:
        """Finish `file`, just acquired, and return its path: the next `acquire` gives another. Raises `OSError`."""

    def close(self) -> None:
        """Let go of the open file. What was written is with the operating system already."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def make_folder(self) -> None:
        os.makedirs(self.folder, mode=0o700, exist_ok=True)

    def new_paths(self) -> Iterator[str]:
        """Names for a file that begins now, the first of which is mostly free. They sort by time."""
        while True:
            stem = f"{self.prefix}{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
            # A name is never used twice, not even once its file is pruned: it would sort before younger ones.
            self._count = self._count + 1 if stem == self._stem else 0
            self._stem = stem
            path = os.path.join(self.folder, f"{stem}_{self._count:03}.jsonl" if self._count else f"{stem}.jsonl")
            if not os.path.exists(path + ".gz"):
                yield path

    def neighbours(self) -> list[str]:
        """Paths of the log files that follow this log's naming, in order of their time."""
        return [
            os.path.join(self.folder, n) for n in sorted(os.listdir(self.folder)) if self._finished_name.fullmatch(n)
        ]


class DirectoryLog(Log):
    """A folder in which each process writes a file of its own, and holds its lock for as long as it does."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, folder, "")

    def acquire(self) -> LogFile:
        if self.file is not None and not self.file.is_current():
            warn("log file was removed or renamed, going on in a new one", file=self.file.path)
            self.close()
        if self.file is None:
            self.make_folder()
            self.file = self._begin()
        self.file.heal()
        return self.file

    def release(self) -> None:
        pass

    def rotate(self, file: LogFile) -> str:
        self.file = self._begin()
        file.close()
        return file.path

    def _begin(self) -> LogFile:
        for path in self.new_paths():
            with suppress(FileExistsError):
                file = LogFile.open(path, new=True)
                file.lock()
                if file.is_current():
                    return file
                file.close()  # another process has just pruned it, empty and not yet locked
        raise AssertionError("there is always another name")


class NamedLog(Log):
    """One file that several processes share: each batch is appended under its lock."""

    def __init__(self, path: str) -> None:
        super().__init__(path, os.path.dirname(path), os.path.basename(path).removesuffix(".jsonl") + "-")

    def acquire(self) -> LogFile:
        while True:
            if self.file is None:
                self.make_folder()
                self.file = LogFile.open(self.path)
            self.file.lock()
            if self.file.is_current():
                self.file.heal()
                return self.file
            self.close()  # another process has rotated it

    def release(self) -> None:
        if self.file is not None:
            self.file.unlock()

    def rotate(self, file: LogFile) -> str:
        finished = next(path for path in self.new_paths() if not os.path.exists(path))
        os.rename(self.path, finished)  # the lock on `file` keeps other writers of this path out
        self.close()
        return finished


# --- finished files ------------------------------------------------------------------------------------------------


def recover(log: Log) -> list[str]:
    """Put right what killed writers left in the folder of `log`; returns the paths of the finished plain files."""
    finished: list[str] = []
    for path in log.neighbours():
        if path.endswith(".gz") or (file := LogFile.claim(path)) is None:
            continue
        try:
            file.heal()
            finished.append(path)
            with suppress(FileNotFoundError):
                os.unlink(path + GZIP_PART_SUFFIX)
        except OSError as error:
            warn_once("torn log file cannot be repaired", path, file=path, reason=error.strerror)
        finally:
            file.close()
    return finished


def prune(log: Log, keep_files: int | None, keep_seconds: float | None) -> None:
    """Remove finished files of `log`: all but the newest `keep_files`, and those last written `keep_seconds` ago."""
    if keep_files is None and keep_seconds is None:
        return
    kept = 0
    for path in reversed(log.neighbours()):
        file = LogFile.claim(path)
        if file is None:
            continue
        old = keep_seconds is not None and time.time() - os.fstat(file.fd).st_mtime > keep_seconds
        if old or (keep_files is not None and kept >= keep_files):
            file.remove()
        else:
            kept += 1
            file.close()


def _made_anew(path: str) -> int:
    """Descriptor of a new file at `path`, in place of whatever is there: a link there is removed, never followed."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    return open_regular(path, _FLAGS | os.O_CREAT | os.O_EXCL)


class Compression:
    """Turns one finished log file into `<path>.gz`, block by block.

    The result gets its name when it is complete and on the disk, and only then the original goes: killed at any
    moment, the whole log is still there, plain or compressed, and `recover` finds what has to be done again.
    """

    def __init__(self, source: LogFile) -> None:
        self._source = source  # locked, so that no other process prunes or compresses it
        self._part = source.path + GZIP_PART_SUFFIX
        self._out = _made_anew(self._part)
        self._gzip = zlib.compressobj(wbits=31)
        self._offset = 0

    def step(self) -> bool:
        """Compress the next block; True while there is more to do. May raise `OSError`."""
        block = _read_at(self._source.fd, self._offset, BLOCK)
        self._offset += len(block)
        _write_all(self._out, self._gzip.compress(block))
        if len(block) == BLOCK:
            return True
        _write_all(self._out, self._gzip.flush())
        os.fsync(self._out)
        written = os.fstat(self._source.fd)
        os.utime(self._part, ns=(written.st_atime_ns, written.st_mtime_ns))  # `keep_seconds` goes by the last line
        os.replace(self._part, self._source.path + ".gz")
        self._source.remove(fragments=False)
        self.close()
        return False

    def close(self) -> None:
        """Let go of both files, finished or not."""
        out, self._out = self._out, -1
        if out >= 0:
            os.close(out)
        self._source.close()
