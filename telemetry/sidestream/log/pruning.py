"""Pruning of a log: old files are removed, or lose their content, beside writers that go on.

Only files that the JSONL exporter named by their time are touched, and only those whose lock can be had: a file that is
being written is never one of them. The index sees that a file is gone or another one when it is asked next.
"""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal, TypeAlias

import msgspec

from sidestream.errors import ConfigurationError
from sidestream.events import encode_line
from sidestream.logfiles.locks import try_lock
from sidestream.logfiles.naming import TORN_SUFFIX, pid_in_name
from sidestream.logfiles.opening import open_regular
from sidestream.recording.content import NONE, apply_policy

from .files import Paths, files_of
from .reader import Problem, blocks_of, decode_block, decoder_of

Act: TypeAlias = Literal["removed", "content removed"]
PART_SUFFIX = ".pruned.part"


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to one file."""

    file: str
    act: Act
    before: int
    """Bytes."""
    after: int
    """Bytes; of a trial run, where content would be removed, not known and so `before`."""


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """What was pruned of a log, the oldest file first."""

    files: list[Pruned]
    size: int
    """Bytes of the log now, the files that are being written included."""
    kept: list[str]
    """Files that should have gone and could not: they are being written, are another user's, or hold lines that cannot
    be read and so cannot be freed from content."""


def prune(
    paths: Paths,
    *,
    older_than: float | None = None,
    max_size: int | None = None,
    content_first: bool = False,
    dry_run: bool = False,
    now: Callable[[], float] = time.time,
) -> Pruning:
    """Make a log smaller.

    Args:
        paths: folders, files or globs, as for `log_files`.
        older_than: files that were last written so many seconds ago are removed.
        max_size: the oldest files are removed until the log has no more bytes than this.
        content_first: remove what people and models wrote before numbers: of files that are too old only the content,
            and for `max_size` the content of the oldest files before whole files.
        dry_run: only tell what would be done.
        now: the time, in Unix seconds.

    Raises `ConfigurationError` where nothing says what is too much, and where a path leads nowhere.
    """
    if older_than is None and max_size is None:
        raise ConfigurationError("prune: say what is too much, with an age (30d) or a size (10GB)")
    work = _Work(paths, content_first, dry_run)
    for file in list(work.files):
        if older_than is not None and now() - work.files[file].st_mtime > older_than:
            work.strip(file) if content_first else work.remove(file)
    if max_size is not None:
        for act in (work.strip, work.remove) if content_first else (work.remove,):
            for file in list(work.files):
                if work.size <= max_size:
                    break
                act(file)
    return Pruning(files=work.done, size=work.size, kept=sorted(work.kept))


class _Work:
    """The files that may be pruned, the oldest first, and what was done to them."""

    def __init__(self, paths: Paths, content_first: bool, dry_run: bool) -> None:
        self._dry_run = dry_run
        self.files: dict[str, os.stat_result] = {}
        self.size = 0
        self.done: list[Pruned] = []
        self.kept: set[str] = set()
        self._stripped: set[str] = set()
        for path in files_of(paths):
            with suppress(OSError):  # gone since it was listed
                status = path.stat()
                self.size += status.st_size
                if pid_in_name(str(path)) is not None:
                    self.files[str(path)] = status

    def remove(self, path: str) -> None:
        with self._claimed(path) as claimed:
            if not claimed:
                return
            size = self.files.pop(path).st_size
            if not self._dry_run and not _unlink(path):
                self.kept.add(path)
                return
        self.size -= size
        self.done.append(Pruned(file=path, act="removed", before=size, after=0))

    def strip(self, path: str) -> None:
        if path in self._stripped:
            return
        self._stripped.add(path)
        before = self.files[path].st_size
        after: int | None = before
        with self._claimed(path) as claimed:
            if not claimed:
                return
            if not self._dry_run:
                after = _without_content(path, self.files[path])
        if after is None:
            self.kept.add(path)
        elif after < before or self._dry_run:
            self.size -= before - after
            self.done.append(Pruned(file=path, act="content removed", before=before, after=after))

    @contextmanager
    def _claimed(self, path: str) -> Iterator[bool]:
        """Holds the lock of `path`; False where a living writer has it, where it is not ours, or is gone."""
        try:
            fd = open_regular(path, os.O_RDWR | os.O_APPEND, own=True)
        except OSError:
            if os.path.lexists(path):
                self.kept.add(path)
            yield False
            return
        try:
            claimed = _locks(fd, path)
            if not claimed and os.path.lexists(path):
                self.kept.add(path)
            yield claimed
        finally:
            os.close(fd)


def _locks(fd: int, path: str) -> bool:
    try:
        locked = try_lock(fd)
        here, there = os.fstat(fd), os.lstat(path)
    except OSError:  # no locks here, or rotated in this moment
        return False
    return locked and (here.st_ino, here.st_dev) == (there.st_ino, there.st_dev)


def _unlink(path: str) -> bool:
    """Remove `path`, whose lock is held, and what was torn off it. Windows removes no open file: there it stays."""
    try:
        os.unlink(path)
    except OSError:
        return False
    with suppress(OSError):
        os.unlink(path.removesuffix(".gz") + TORN_SUFFIX)
    return True


def _without_content(path: str, status: os.stat_result) -> int | None:
    """Put a copy of `path` without content in its place; returns its bytes. None where a line cannot be read."""
    problems: list[Problem] = []
    part = path + PART_SUFFIX
    decoder = decoder_of(None)
    try:
        with _new(part, compressed=path.endswith(".gz")) as target:
            for block in blocks_of(path, problems.append):
                events = decode_block(block, decoder, path, problems.append)
                target.write(b"".join(encode_line(apply_policy(event, NONE, None)) for event in events))
        if problems:
            return None
        size = os.stat(part).st_size
        if size < status.st_size:
            os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))  # it is as old as it was
            os.replace(part, path)
        return min(size, status.st_size)
    except OSError:
        return None
    finally:
        Path(part).unlink(missing_ok=True)


@contextmanager
def _new(path: str, *, compressed: bool) -> Iterator[IO[bytes]]:
    with suppress(FileNotFoundError):
        os.unlink(path)  # of a process that was killed meanwhile
    fd = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with os.fdopen(fd, "wb") as raw:
        if not compressed:
            yield raw
            return
        with gzip.open(raw, "wb", compresslevel=6) as file:
            yield file  # type: ignore[misc]
