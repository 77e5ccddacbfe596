"""Following a log that others still write to: new lines, new files, rotated and compressed ones.

A file is known by its first line. Its name changes when it is rotated, its inode when it is compressed; the first line
names the run that began it, and stays. Positions are those of the uncompressed bytes, and so stay as well.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from sidestream.errors import UnreadableLogError
from sidestream.log.files import Paths, matching_files
from sidestream.log.reader import Block, OnProblem, Problem, Skipped, blocks_of, decode_block, decoder_of
from sidestream.logfiles.opening import open_regular

HEAD = 4096
"""Bytes of the first line that identify a file: time, run and agent."""
FORGET_AFTER = 1_000
"""Looks at the log after which a file that is gone is forgotten."""


class Position(msgspec.Struct):
    """How far a file has been read."""

    offset: int = 0
    """Bytes, uncompressed, of the lines that have been taken."""
    line: int = 1
    """Number of the next one."""
    size: int = -1
    """Of the file as it is on the disk, when it was last read to its end; with `mtime_ns`."""
    mtime_ns: int = 0


class Batch(NamedTuple):
    """Some lines of one file."""

    file: str
    events: Sequence[Any]
    end: int
    """Where they end, in bytes."""


class Follower:
    """Reads a log from where it was left.

    Args:
        paths: folders, files or globs. What does not exist yet is waited for.
        positions: by file, where to go on; files that are not in it are read from their beginning.
        types: the event types wanted; None for all.
        from_end: begin at the end of what is there now. Files that come later are read whole.
        on_problem: called for each line that cannot be read. The end of a line that is missing is waited for.
    """

    def __init__(
        self,
        paths: Paths,
        *,
        positions: Mapping[str, Position] | None = None,
        types: Collection[str] | None = None,
        from_end: bool = False,
        on_problem: OnProblem | None = None,
    ) -> None:
        self._paths = [os.fspath(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
        self.positions: dict[str, Position] = dict(positions or {})
        """Position by file: a batch counts as taken once the next one is requested."""
        self._decoder = decoder_of(None if types is None else frozenset(types))
        self._on_problem = on_problem
        self._seen: dict[str, _File] = {}
        self._missing: dict[str, int] = {}
        if from_end:
            for _, position, blocks in self._files():
                for block in blocks:
                    _advance(position, block)

    def poll(self) -> Iterator[Batch]:
        """All that has come since, file by file in the order of their names, which is that of time."""
        for file, position, blocks in self._files():
            for block in blocks:
                events = decode_block(block, self._decoder, file, self._tell)
                wanted = [event for event in events if not isinstance(event, Skipped)]
                if wanted:
                    yield Batch(file, wanted, block.end)
                _advance(position, block)

    def behind_bytes(self) -> int:
        """Bytes of uncompressed files that had not been taken when they were last looked at. From any thread."""
        seen = [file for file in list(self._seen.values()) if not file.path.endswith(".gz") and file.key is not None]
        positions = [self.positions.get(file.key or "") for file in seen]
        return sum(
            max(0, file.size - (place.offset if place else 0)) for file, place in zip(seen, positions, strict=True)
        )

    def _files(self) -> Iterator[tuple[str, Position, Iterator[Block]]]:
        """The files that have changed: where each was left, and the whole lines from there on."""
        files = self._present()
        for key in self.positions.keys() - files.keys():
            self._missing[key] = self._missing.get(key, 0) + 1
            if self._missing[key] > FORGET_AFTER:
                del self.positions[key], self._missing[key]
        for key, file in files.items():
            self._missing.pop(key, None)
            position = self.positions.setdefault(key, Position())
            if (position.size, position.mtime_ns) != (file.size, file.mtime_ns):
                if not file.path.endswith(".gz"):
                    position.offset = min(position.offset, file.size)
                problems: list[Problem] = []
                yield file.path, position, _whole_lines(file, position, problems.append)
                if not any(problem.kind == "unreadable" for problem in problems):
                    position.size, position.mtime_ns = file.size, file.mtime_ns
                    for problem in problems:
                        self._tell(problem)

    def _present(self) -> dict[str, _File]:
        """The files that are there, by what they are known by; of copies the longest, which has it all."""
        before, self._seen = self._seen, {}
        files: dict[str, _File] = {}
        for path in self._paths_there():
            try:
                stat = os.stat(path)
                file = before.get(path)
                if file is None or (file.inode, file.size, file.mtime_ns) != _state(stat):
                    file = _File(path, _key_of(path), *_state(stat))
            except FileNotFoundError:
                continue  # renamed or removed just now: the next look finds it
            except OSError as error:
                self._tell(Problem(file=path, line=0, kind="unreadable", message=error.strerror or str(error)))
                continue
            self._seen[path] = file
            if file.key is not None and (file.key not in files or file.rank > files[file.key].rank):
                files[file.key] = file
        return dict(sorted(files.items(), key=lambda item: item[1].path))

    def _paths_there(self) -> list[str]:
        found: set[str] = set()
        for path in self._paths:
            try:
                found.update(matching_files(path))
            except UnreadableLogError as error:
                self._tell(Problem(file=path, line=0, kind="unreadable", message=str(error)))
        return sorted(found)

    def _tell(self, problem: Problem) -> None:
        if self._on_problem is not None and problem.kind not in ("torn", "truncated"):  # what may be going on
            self._on_problem(problem)


class _File(NamedTuple):
    path: str
    key: str | None
    """None while its first line is not complete."""
    inode: int
    size: int
    mtime_ns: int

    @property
    def rank(self) -> tuple[bool, int]:
        return not self.path.endswith(".gz"), self.size


def _state(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _key_of(path: str) -> str | None:
    with open(open_regular(path, os.O_RDONLY, follow_links=True), "rb") as source:
        head = source.read(HEAD)
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, HEAD)
        except zlib.error:
            return None
    end = head.find(b"\n") + 1
    if not end and len(head) < HEAD:
        return None
    return blake2b(head[: end or HEAD], digest_size=16).hexdigest()


def _whole_lines(file: _File, position: Position, on_problem: OnProblem) -> Iterator[Block]:
    opened = False
    for block in blocks_of(file.path, on_problem, start=position.offset, line=position.line):
        if not opened and not _is_still(file):  # it may be another one that was opened
            on_problem(Problem(file=file.path, line=0, kind="unreadable", message="renamed just now"))
            return
        opened = True
        if block.data.endswith(b"\n"):  # a line without an end may be moved aside yet
            yield block


def _is_still(file: _File) -> bool:
    try:
        return os.stat(file.path).st_ino == file.inode
    except OSError:
        return False


def _advance(position: Position, block: Block) -> None:
    position.offset = block.end
    position.line = block.line + block.data.count(b"\n")
