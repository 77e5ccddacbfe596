"""Files of a JSONL log: names, locks, repair, rotation, pruning and compression.

Three invariants hold. A whole file ends in a newline: bytes after the last newline are the torn line of a killed
writer. A writer locks its file: a file that can be locked has no writer. A path and an open file belong together only
while both have the same inode.
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
"""Bytes read, moved or compressed per step."""

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
        """Size in bytes as of the last `is_current` or append."""
        self._whole = 0
        """Size at which the file last ended in a newline; at this size `heal` has nothing to do."""
        self.started = first_timestamp(_read_at(fd, 0, 4096)) or time.time()
        """Unix time of the first line; the current time for an empty file."""

    @classmethod
    def open(cls, path: str, *, new: bool = False) -> LogFile:
        """Open the user's own file at `path`, created with mode 0600 if missing. With `new`, an existing file raises
        `FileExistsError`."""
        return cls(path, open_regular(path, _FLAGS | os.O_CREAT | (os.O_EXCL if new else 0), own=True))

    @classmethod
    def claim(cls, path: str) -> LogFile | None:
        """Open and lock `path`; None if a living writer holds the lock or the file cannot be opened. Never raises."""
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
        """Acquire the file's lock, waiting for other writers. Without lock support, log a warning and go on."""
        try:
            lock(self.fd)
        except OSError as error:  # some network file systems
            reason = error.strerror or str(error)
            warn_once("file system has no locks, other writers are not kept apart", reason, reason=reason)

    def unlock(self) -> None:
        with suppress(OSError):
            unlock(self.fd)

    def is_current(self) -> bool:
        """Whether the path still names this file: other processes may rotate, rename or remove it."""
        try:
            there = os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        self.size = there.st_size
        return (there.st_ino, there.st_dev) == self._inode

    def append(self, pieces: Sequence[bytes]) -> None:
        """Append all `pieces`, or none: a failure truncates the file to its previous size."""
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
        """Truncate the file to `size` bytes. If truncation fails, `heal` removes the rest before the next append."""
        with suppress(OSError):
            os.ftruncate(self.fd, size)

    def heal(self) -> None:
        """Move a torn last line into `<path>.torn`, so that the next line is not appended to the fragment."""
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
        """Close the descriptor, which releases the lock. No data is lost: each write went to the operating system."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)

    def remove(self, *, fragments: bool = True) -> None:
        """Delete the file, with `fragments` also its `.torn` file, and close the descriptor."""
        if sys.platform == "win32":
            self.close()  # Windows cannot delete an open file
        # Elsewhere the deletion happens under the lock: a writer that waits for the lock of a new file notices the
        # deletion, and no other process compresses a file a second time whose `.gz` has just been put in place.
        for name in (self.path, self.path.removesuffix(".gz") + TORN_SUFFIX)[: 2 if fragments else 1]:
            with suppress(OSError):
                os.unlink(name)
        self.close()


def _read_at(fd: int, offset: int, size: int) -> bytes:
    os.lseek(fd, offset, os.SEEK_SET)  # harmless to appends, thanks to O_APPEND; Windows lacks os.pread
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
    """Fsync the folder of `path`, so that new file names survive a power cut. No-op if unsupported."""
    with suppress(OSError):  # Windows cannot open folders
        fd = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


# --- where the lines go --------------------------------------------------------------------------------------------


class Log(ABC):
    """Base class of a log's path: the file written now, and the finished files of the same log."""

    def __init__(self, path: str, folder: str, prefix: str) -> None:
        self.path = path
        self.folder = folder
        self.prefix = prefix
        self.file: LogFile | None = None
        self._stem, self._count = "", 0
        self._finished_name = re.compile(re.escape(prefix) + STEM + r"(\.gz)?")

    @abstractmethod
    def acquire(self) -> LogFile:
        """File to append to: locked, current and free of torn lines. Raises `OSError`."""

    @abstractmethod
    def release(self) -> None:
        """Unlock a shared file after the append."""

    @abstractmethod
    def rotate(self, file: LogFile) -> str:
        """Finish the acquired `file` and return its path; the next `acquire` opens a new file. Raises `OSError`."""

    def close(self) -> None:
        """Close the open file, if any."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def make_folder(self) -> None:
        os.makedirs(self.folder, mode=0o700, exist_ok=True)

    def new_paths(self) -> Iterator[str]:
        """Candidate paths for a new file, which sort by time. The first is usually free."""
        while True:
            stem = f"{self.prefix}{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
            # Names of pruned files are not reused: a reused name would sort before younger files.
            self._count = self._count + 1 if stem == self._stem else 0
            self._stem = stem
            path = os.path.join(self.folder, f"{stem}_{self._count:03}.jsonl" if self._count else f"{stem}.jsonl")
            if not os.path.exists(path + ".gz"):
                yield path

    def neighbours(self) -> list[str]:
        """Paths of this log's files, recognized by name, oldest first. Raises `OSError`."""
        return [
            os.path.join(self.folder, n) for n in sorted(os.listdir(self.folder)) if self._finished_name.fullmatch(n)
        ]


class DirectoryLog(Log):
    """Log folder with one file per process, locked by its writer for as long as the file is open."""

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
                file.close()  # another process pruned the new file between its creation and the lock
        raise AssertionError("there is always another name")


class NamedLog(Log):
    """Single log file shared by several processes: each batch is appended under the file's lock."""

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
            self.close()  # another process has rotated the file

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
    """Repair the files that killed writers left in the folder of `log`.

    Returns the paths of the finished, uncompressed files. Raises `OSError` if the folder cannot be listed.
    """
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
    """Remove finished files of `log`: all but the newest `keep_files`, and files older than `keep_seconds`."""
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


def _create_file(path: str) -> int:
    """Descriptor of a new file at `path`. An existing file or link is removed first; a link is never followed."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    return open_regular(path, _FLAGS | os.O_CREAT | os.O_EXCL)


class Compression:
    """Compression of one finished log file into `<path>.gz`, block by block.

    The compressed file is renamed into place once it is complete and on the disk; only then the original is removed.
    A kill at any moment leaves the whole log, plain or compressed, and `recover` finds the files left to compress.
    """

    def __init__(self, source: LogFile) -> None:
        self._source = source  # locked: no other process prunes or compresses the file
        self._part = source.path + GZIP_PART_SUFFIX
        self._out = _create_file(self._part)
        self._gzip = zlib.compressobj(wbits=31)
        self._offset = 0

    def step(self) -> bool:
        """Compress the next block; False once the file is finished. May raise `OSError`."""
        block = _read_at(self._source.fd, self._offset, BLOCK)
        self._offset += len(block)
        _write_all(self._out, self._gzip.compress(block))
        if len(block) == BLOCK:
            return True
        _write_all(self._out, self._gzip.flush())
        os.fsync(self._out)
        written = os.fstat(self._source.fd)
        os.utime(self._part, ns=(written.st_atime_ns, written.st_mtime_ns))  # `keep_seconds` counts from the last line
        os.replace(self._part, self._source.path + ".gz")
        self._source.remove(fragments=False)
        self.close()
        return False

    def close(self) -> None:
        """Close both files, finished or not."""
        out, self._out = self._out, -1
        if out >= 0:
            os.close(out)
        self._source.close()
