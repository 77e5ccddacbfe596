"""Following of a log that is still being written: new lines, new files, rotated and compressed files.

A file is identified by its first line. Rotation changes the name and compression the inode, but the first line, which
names the run that began the file, stays. Positions are offsets in the uncompressed bytes, so they stay valid as well.
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
"""Number of bytes of the first line that identify a file: time, run and agent."""
FORGET_AFTER = 1_000
"""Number of polls after which the position of a deleted file is forgotten."""


class Position(msgspec.Struct):
    """Position up to which a file has been read."""

    offset: int = 0
    """Offset in uncompressed bytes after the last line taken."""
    line: int = 1
    """Number of the next line."""
    size: int = -1
    """Size of the file on disk when it was last read to its end, together with `mtime_ns`; -1 if never."""
    mtime_ns: int = 0


class Batch(NamedTuple):
    """Events of some lines of one file."""

    file: str
    events: Sequence[Any]
    end: int
    """Offset in uncompressed bytes where the lines end."""


class Follower:
    """Reader that continues from the last position in each file.

    Args:
        paths: folders, files or globs. Paths that do not exist yet are waited for.
        positions: start position by file; other files are read from their beginning.
        types: event types to return; None for all.
        from_end: skip what is in the log now. Files that appear later are read whole.
        batch: minimum number of events per batch, except for the last of a file.
        on_problem: called for each unreadable line. An incomplete last line is waited for, not reported.
    """

    def __init__(
        self,
        paths: Paths,
        *,
        positions: Mapping[str, Position] | None = None,
        types: Collection[str] | None = None,
        from_end: bool = False,
        batch: int = 1,
        on_problem: OnProblem | None = None,
    ) -> None:
        self._batch = batch
        self._paths = [os.fspath(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
        self.positions: dict[str, Position] = dict(positions or {})
        """Position by file. A batch counts as taken when the next batch is requested."""
        self._decoder = decoder_of(None if types is None else frozenset(types))
        self._on_problem = on_problem
        self._seen: dict[str, _File] = {}
        self._missing: dict[str, int] = {}
        if from_end:
            for _, position, blocks in self._files():
                for block in blocks:
                    _advance(position, block)

    def poll(self) -> Iterator[Batch]:
        """New events since the last call, file by file in order of their names, which is the order of time."""
        for file, position, blocks in self._files():
            wanted: list[Any] = []
            last: Block | None = None
            for last in blocks:
                events = decode_block(last, self._decoder, file, self._report)
                wanted += [event for event in events if not isinstance(event, Skipped)]
                if len(wanted) >= self._batch:
                    yield Batch(file, wanted, last.end)
                    wanted = []
                if not wanted:
                    _advance(position, last)
            if last is not None and wanted:
                yield Batch(file, wanted, last.end)
                _advance(position, last)

    def behind_bytes(self) -> int:
        """Bytes of uncompressed files that were not yet taken at the last poll. Callable from any thread."""
        seen = [file for file in list(self._seen.values()) if not file.path.endswith(".gz") and file.key is not None]
        positions = [self.positions.get(file.key or "") for file in seen]
        return sum(
            max(0, file.size - (place.offset if place else 0)) for file, place in zip(seen, positions, strict=True)
        )

    def _files(self) -> Iterator[tuple[str, Position, Iterator[Block]]]:
        """Files that have changed, each with its position and the whole lines from there."""
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
                        self._report(problem)

    def _present(self) -> dict[str, _File]:
        """Existing files by their identity; of several copies the longest, which is complete."""
        before, self._seen = self._seen, {}
        files: dict[str, _File] = {}
        for path in self._paths_there():
            try:
                stat = os.stat(path)
                file = before.get(path)
                if file is None or (file.inode, file.size, file.mtime_ns) != _state(stat):
                    file = _File(path, _key_of(path), *_state(stat))
            except FileNotFoundError:
                continue  # renamed or removed since it was listed: the next poll finds it
            except OSError as error:
                self._report(Problem(file=path, line=0, kind="unreadable", message=error.strerror or str(error)))
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
                self._report(Problem(file=path, line=0, kind="unreadable", message=str(error)))
        return sorted(found)

    def _report(self, problem: Problem) -> None:
        # a line or a compressed file that may still be completed
        if self._on_problem is not None and problem.kind not in ("torn", "truncated"):
            self._on_problem(problem)


class _File(NamedTuple):
    path: str
    key: str | None
    """Digest of the first line; None while the line is incomplete."""
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
        if not opened and not _is_still(file):  # another file may have been opened under this name
            on_problem(Problem(file=file.path, line=0, kind="unreadable", message="renamed just now"))
            return
        opened = True
        if block.data.endswith(b"\n"):  # an incomplete line may still be moved aside by its writer
            yield block


def _is_still(file: _File) -> bool:
    try:
        return os.stat(file.path).st_ino == file.inode
    except OSError:
        return False


def _advance(position: Position, block: Block) -> None:
    position.offset = block.end
    position.line = block.line + block.data.count(b"\n")
