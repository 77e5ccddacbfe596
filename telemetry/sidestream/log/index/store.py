"""Index of the log files in a folder, stored beside them, so that a query does not read the whole log again.

Each folder has one SQLite database in `.sidestream-index/`: how far each file was read, the part of each run in each
file (`parts`: numbers and names, no content), and the columns by which lists are filtered and sorted (`runs`). A file
that has grown is read from its previous end; a replaced file is read from its beginning. Deleting the index is safe. If
the folder is not writable, the index is stored in the user's cache, or else in memory for this process.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from sidestream.diagnostics import warn_once
from sidestream.log.reader import Problem, blocks_of, decode_block, is_compressed

from .database import FOLDER, cache_place, opened
from .decoder import event_decoder
from .gathering import Gatherer
from .known_file import KnownFile, continues, end_digests, known_file
from .packing import PartPacker, decode_problems, encode
from .parts import RunPart
from .rows import Value
from .writer import IndexWriter, in_lots, placeholders

WORTHWHILE = 4 * 1024 * 1024
"""Minimum bytes of log in a folder for a stored index: a smaller log is read faster than looked up."""

_BATCH = 16 * 1024 * 1024  # maximum bytes of log, or
_BATCH_FILES = 200  # maximum files, stored in one transaction

_T = TypeVar("_T")


class _Reading(msgspec.Struct):
    """Result of reading the new lines of one file."""

    before: KnownFile
    now: KnownFile
    parts: list[RunPart]
    is_replaced: bool
    """Whether the file was replaced, so that its stored parts are invalid."""
    more: bool
    """Whether the file has further lines to read."""


class Index:
    """Index of the log files in one folder. A damaged or unwritable database never raises."""

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        """Open the index and read the new lines of `files`, all of them in `folder`."""
        self._folder = folder
        self._files = list(files)
        places: list[Path] = []
        if sum(map(_size, self._files)) >= WORTHWHILE:
            places = [folder / FOLDER / "index.sqlite", cache_place(folder)]
        self._numbers: dict[int, Path] = {}
        self._is_whole = True
        self._use(*self._connect(places))
        self._safely(self._update)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- queries ---

    @property
    def files(self) -> dict[int, Path]:
        """Queried files in their order, by their number in the tables."""
        return self._numbers

    @property
    def is_whole(self) -> bool:
        """Whether all files of the index are queried."""
        return self._is_whole

    def ask(
        self,
        make: Callable[..., _T],
        sql: Callable[[], str],
        values: Sequence[Value] = (),
        functions: Mapping[str, Callable[[str], bool]] | None = None,
    ) -> list[_T]:
        """Rows of the result of `sql()`, converted by `make`. `sql` is called anew when file numbers have changed."""

        def answer() -> list[_T]:
            for name, function in (functions or {}).items():
                self._db.create_function(name, 1, function, deterministic=True)
            return [make(*row) for row in self._db.execute(sql(), values)]

        return self._safely(answer)

    def part(self, data: bytes) -> RunPart:
        """Decode a row of `parts`. Errors are handled by `ask`, so call only within its `make`."""
        return self._packer.part(data)

    def problems(self) -> list[Problem]:
        """Problems in the queried files."""
        rows = self.ask(
            lambda file, problems: (file, decode_problems(problems)), lambda: "SELECT id, problems FROM files"
        )
        return [
            msgspec.structs.replace(problem, file=str(self._numbers[file]))
            for file, problems in rows
            for problem in problems
            if file in self._numbers
        ]

    # --- reading of new lines ---

    def _update(self) -> None:
        names = {_name(file): file for file in self._files}
        known = {row[1]: known_file(row) for row in self._db.execute("SELECT * FROM files")}
        gone = [each.id for name, each in known.items() if each.id and name not in names and not self._is_there(name)]
        if gone:
            with self._transaction():
                writer = IndexWriter(self._db, self._packer)
                for each in gone:
                    writer.forget(each)
                    self._db.execute("DELETE FROM files WHERE id = ?", [each])
                writer.forget_unused_names()
        pending: list[_Reading] = []
        size = 0
        for name, file in names.items():
            before = known.get(name) or KnownFile(None, name)
            while (reading := self._read(file, before)) is not None:
                pending.append(reading)
                size += reading.now.size
                if reading.more or size > _BATCH or len(pending) >= _BATCH_FILES:
                    self._remember(pending)
                    pending, size = [], 0
                if not reading.more:
                    break
                rows = self._db.execute("SELECT * FROM files WHERE name = ?", [name]).fetchall()
                before = known_file(rows[0]) if rows else KnownFile(None, name)
        if pending:
            self._remember(pending)
        numbers = {bytes(name): number for number, name in self._db.execute("SELECT id, name FROM files")}
        self._numbers = {numbers[name]: file for name, file in names.items() if name in numbers}
        self._is_whole = len(self._numbers) == len(numbers)

    def _is_there(self, name: bytes) -> bool:
        file = os.fsdecode(name)
        return (self._folder / file).exists() or (self._folder / f"{file}.gz").exists()

    def _read(self, file: Path, before: KnownFile) -> _Reading | None:
        """Read the new lines of `file`, at most one batch; None if there are none."""
        try:
            status = os.stat(file)
            compressed = is_compressed(file)
        except OSError:
            status, compressed = None, False
        fingerprint = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}" if status else ""
        # An incomplete last line of a plain file has to be read again: its writer may be gone by now.
        if status and fingerprint == before.fingerprint and (compressed or before.size == status.st_size):
            return None
        is_replaced = before.id is None or not status or not continues(file, status.st_size, compressed, before)
        now = (
            KnownFile(before.id, before.name, fingerprint)
            if is_replaced
            else msgspec.structs.replace(before, fingerprint=fingerprint)
        )
        if compressed and not is_replaced:
            return _Reading(before, now, [], is_replaced, False)
        now.problems = [problem for problem in now.problems if 0 < problem.line < now.line]
        start, more = now.size, False
        gatherer = Gatherer(None if is_replaced else self._known_parts(before))
        for block in blocks_of(file, now.problems.append, start=now.size, line=now.line):
            events = decode_block(block, event_decoder(), str(file), now.problems.append)
            gatherer.take(events, block.offset, block.end, block.line)
            now.size, now.line = block.end, block.next_line
            now.whole = block.data.endswith(b"\n")
            if not compressed and now.size - start > _BATCH:
                more, now.fingerprint = True, ""
                break
        now.head, now.tail = end_digests(file, now.size, compressed)
        return _Reading(before, now, gatherer.parts(), is_replaced, more)

    def _known_parts(self, file: KnownFile) -> Callable[[Collection[str]], dict[str, RunPart]]:
        def known_parts(run_ids: Collection[str]) -> dict[str, RunPart]:
            found: dict[str, RunPart] = {}
            for some in in_lots(run_ids):
                sql = (
                    "SELECT run_id, part FROM runs CROSS JOIN parts ON runs.id = parts.run "
                    f"WHERE run_id IN ({placeholders(some)}) AND parts.file = ?"
                )
                found |= {run_id: self._packer.part(data) for run_id, data in self._db.execute(sql, [*some, file.id])}
            return found

        return known_parts

    def _remember(self, readings: list[_Reading]) -> None:
        with self._transaction():
            writer = IndexWriter(self._db, self._packer)
            for reading in readings:
                before, now = reading.before, reading.now
                rows = self._db.execute("SELECT seen, size FROM files WHERE name = ?", [now.name]).fetchall()
                if rows != ([(before.fingerprint, before.size)] if before.id is not None else []):
                    continue  # another process indexed the file meanwhile
                if before.id is not None and reading.is_replaced:
                    writer.forget(before.id)
                problems = encode([msgspec.structs.replace(problem, file="") for problem in now.problems])
                values = [now.name, now.fingerprint, now.size, now.line, now.head, now.tail, now.whole, problems]
                done = self._db.execute(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [before.id, *values]
                )
                writer.keep(int(done.lastrowid or 0), reading.parts)

    # --- the database ---

    def _connect(self, places: list[Path]) -> tuple[sqlite3.Connection, Path | None]:
        for place in places:
            for _ in range(2):
                try:
                    return opened(place), place
                except (sqlite3.OperationalError, OSError):
                    break  # unreadable or unwritable
                except sqlite3.DatabaseError:  # not a database, or of another version
                    with suppress(OSError):
                        place.unlink()
        return opened(None), None

    def _use(self, db: sqlite3.Connection, place: Path | None) -> None:
        self._db, self._place = db, place
        self._packer = PartPacker(db, compress=place is not None)

    def _safely(self, ask: Callable[[], _T]) -> _T:
        """Result of `ask`. If the database fails, falls back to one in memory, for which all files are read again."""
        try:
            return ask()
        except (sqlite3.Error, msgspec.MsgspecError, zlib.error) as error:
            reason = type(error).__name__
            warn_once("log index cannot be used, reading the log itself", reason, reason=reason)
            self._db.close()
            if self._place is not None and not isinstance(error, sqlite3.OperationalError):
                with suppress(OSError):
                    self._place.unlink()  # damaged: the next reader creates a new one
            self._use(opened(None), None)
            self._update()
            return ask()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _name(file: Path) -> bytes:
    return os.fsencode(file.name.removesuffix(".gz"))


def _size(file: Path) -> int:
    try:
        return os.stat(file).st_size * (10 if file.name.endswith(".gz") else 1)
    except OSError:
        return 0
