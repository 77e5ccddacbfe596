"""Pruning of a log: deletes old files or removes their content, while writers are active.

Only files with a dated name of the JSONL exporter are touched, and only if their lock can be taken, so never a file
that is being written. The index notices deleted and replaced files at the next query.
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
    """Result for one file."""

    file: str
    act: Act
    before: int
    """Size in bytes before pruning."""
    after: int
    """Size in bytes after pruning. In a dry run that would remove content, the size is unknown and equals `before`."""


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """Result of pruning a log, the oldest file first."""

    files: list[Pruned]
    size: int
    """Bytes of the log after pruning, including files that are being written."""
    kept: list[str]
    """Files that should have been pruned and were not: being written, owned by another user, or with unreadable lines,
    whose content cannot be removed.
    """


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
        older_than: delete files last written more than this many seconds ago.
        max_size: delete the oldest files until the log has at most this many bytes.
        content_first: remove content (prompts, answers, tool data) before numbers: from files that are too old only the
            content, and for `max_size` the content of the oldest files before whole files.
        dry_run: only report what would be done.
        now: clock, in Unix seconds.

    Raises `ConfigurationError` if neither limit is given, and if a path does not exist.
    """
    if older_than is None and max_size is None:
        raise ConfigurationError("prune: give an age (30d) or a size (10GB)")
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
    """Files that may be pruned, the oldest first, and the results so far."""

    def __init__(self, paths: Paths, content_first: bool, dry_run: bool) -> None:
        self._dry_run = dry_run
        self.files: dict[str, os.stat_result] = {}
        self.size = 0
        self.done: list[Pruned] = []
        self.kept: set[str] = set()
        self._stripped: set[str] = set()
        for path in files_of(paths):
            with suppress(OSError):  # deleted since it was listed
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
        """Hold the lock of `path`; False if a writer holds it, the file belongs to another user, or is gone."""
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
    except OSError:  # no locks on this file system, or the file was rotated just now
        return False
    return locked and (here.st_ino, here.st_dev) == (there.st_ino, there.st_dev)


def _unlink(path: str) -> bool:
    """Delete `path`, whose lock is held, and its torn lines. False if that fails: Windows deletes no open file."""
    try:
        os.unlink(path)
    except OSError:
        return False
    with suppress(OSError):
        os.unlink(path.removesuffix(".gz") + TORN_SUFFIX)
    return True


def _without_content(path: str, status: os.stat_result) -> int | None:
    """Replace `path` by a copy without content; returns the size in bytes, or None if a line cannot be read."""
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
            os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))  # the file keeps its age
            os.replace(part, path)
        return min(size, status.st_size)
    except OSError:
        return None
    finally:
        Path(part).unlink(missing_ok=True)


@contextmanager
def _new(path: str, *, compressed: bool) -> Iterator[IO[bytes]]:
    with suppress(FileNotFoundError):
        os.unlink(path)  # left by a process that was killed
    fd = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with os.fdopen(fd, "wb") as raw:
        if not compressed:
            yield raw
            return
        with gzip.open(raw, "wb", compresslevel=6) as file:
            yield file  # type: ignore[misc]
