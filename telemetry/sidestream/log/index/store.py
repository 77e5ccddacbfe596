"""Index of the log files in a folder, kept beside them, so that a question need not read them all again.

One SQLite database a folder, in `.sidestream-index/`: of each file how far it was read, and what it holds of each run
(`parts`: numbers and names, no content). A file that has grown is read on from there; one that was replaced is read
anew. It may be deleted at any time. Where it cannot be written, it is in the user's cache; where not even there, in
memory, for this once.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from sidestream.diagnostics import warn_once
from sidestream.log.reader import Problem, blocks_of, decode_block, is_compressed
from sidestream.log.runs.summary import RunSummary, summary_of
from sidestream.log.writers import Writers

from .database import FOLDER, cache_place, opened
from .heads import heads
from .known_file import KnownFile, continues, end_digests, known_file
from .packing import decode_facts, decode_part, decode_problems, decode_run, encode
from .parts import Facts, Gatherer, RunPart

WORTHWHILE = 4 * 1024 * 1024
"""Bytes of log in a folder from which an index is kept: less is read quicker than looked up."""

_BATCH = 16 * 1024 * 1024  # bytes of log, or
_BATCH_FILES = 200  # files, that are remembered at once
_PAGE = 1000  # runs in one query

_T = TypeVar("_T")


class _Reading(msgspec.Struct):
    """Result of reading what was new in one file."""

    before: KnownFile
    now: KnownFile
    parts: list[RunPart]
    is_replaced: bool
    """Whether the file is another one by now, so that what was kept of it is void."""
    more: bool
    """Whether there is more to be read."""


class Index:
    """Index of the log files in one folder, by run. Nothing here raises for a damaged or unwritable database."""

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        """Look at `files`, all of them in `folder`, and read whatever is not known of them."""
        self._folder = folder
        self._files = list(files)
        places: list[Path] = []
        if sum(map(_size, self._files)) >= WORTHWHILE:
            places = [folder / FOLDER / "index.sqlite", cache_place(folder)]
        self._db, self._place = self._connect(places)
        self._safely(self._update)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- questions ---

    def parts(self, file: Path, run_ids: Iterable[str] | None = None) -> list[RunPart]:
        """What `file` holds of each run, or of the runs `run_ids`."""
        sql = "SELECT part FROM parts WHERE file = (SELECT id FROM files WHERE name = ?)"
        if run_ids is None:
            return self._ask(decode_part, sql, [_name(file)])
        return [
            part
            for some in _in_lots(run_ids)
            for part in self._ask(decode_part, f"{sql} AND run_id IN ({_placeholders(some)})", [_name(file), *some])
        ]

    def ids(self, file: Path) -> list[tuple[str, bool]]:
        """The runs of which `file` holds something, and of each whether it holds beginning and end."""
        sql = "SELECT run_id, run IS NOT NULL FROM parts WHERE file = (SELECT id FROM files WHERE name = ?)"
        return self._ask(lambda run_id, whole: (run_id, bool(whole)), sql, [_name(file)])

    def runs(self, file: Path, *, facts: bool = False) -> Iterator[tuple[RunSummary, Facts | None]]:
        """The runs that `file` holds from beginning to end, with the single requests and tool calls if wanted."""
        files = [str(file)]

        def made(run: bytes, part: bytes | None) -> tuple[RunSummary, Facts | None]:
            summary = decode_run(run)
            msgspec.structs.force_setattr(summary, "files", files)
            return summary, None if part is None else decode_facts(part)

        sql = (
            f"SELECT run, {'part' if facts else 'NULL'} FROM parts WHERE file = (SELECT id FROM files WHERE name = ?) "
            f"AND run_id > ? AND run IS NOT NULL ORDER BY run_id LIMIT {_PAGE}"
        )
        page = self._ask(made, sql, [_name(file), ""])
        while page:
            yield from page
            page = self._ask(made, sql, [_name(file), page[-1][0].run_id]) if len(page) == _PAGE else []

    def problems(self, file: Path) -> list[Problem]:
        """What could not be read of `file`."""
        rows = self._ask(decode_problems, "SELECT problems FROM files WHERE name = ?", [_name(file)])
        return [msgspec.structs.replace(problem, file=str(file)) for problems in rows for problem in problems]

    def ids_starting_with(self, prefix: str) -> list[tuple[str, str]]:
        """The runs whose id begins with `prefix`, each with the run at its root."""
        sql = "SELECT run_id, root FROM parts WHERE run_id >= ? AND run_id < ?"
        return self._ask(_pair, sql, [prefix, prefix + chr(0x10FFFF)])

    def ids_of_trees(self, roots: Iterable[str]) -> set[str]:
        """The runs that have one of `roots` at their root."""
        sql = "SELECT run_id FROM parts WHERE root IN ({})"
        return {run_id for some in _in_lots(roots) for run_id in self._ask(str, sql.format(_placeholders(some)), some)}

    def _ask(self, make: Callable[..., _T], sql: str, values: Sequence[str | bytes]) -> list[_T]:
        """What `make` makes of each row of the answer."""
        return self._safely(lambda: [make(*row) for row in self._db.execute(sql, values)])

    # --- reading what is new ---

    def _update(self) -> None:
        names = {_name(file): file for file in self._files}
        known = {row[1]: known_file(row) for row in self._db.execute("SELECT * FROM files")}
        gone = [each.id for name, each in known.items() if name not in names and not self._is_there(name)]
        if gone:
            with self._transaction():
                self._db.executemany("DELETE FROM parts WHERE file = ?", [(each,) for each in gone])
                self._db.executemany("DELETE FROM files WHERE id = ?", [(each,) for each in gone])
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

    def _is_there(self, name: bytes) -> bool:
        file = os.fsdecode(name)
        return (self._folder / file).exists() or (self._folder / f"{file}.gz").exists()

    def _read(self, file: Path, before: KnownFile) -> _Reading | None:
        """Read what is new in `file`, of a long one the next batch; None where nothing is."""
        try:
            status = os.stat(file)
            compressed = is_compressed(file)
        except OSError:
            status, compressed = None, False
        fingerprint = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}" if status else ""
        # Of a plain file, the end of a line may be missing still, and whoever was writing it may be gone now.
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
        gatherer = Gatherer(None if is_replaced else self._known_part(before))
        for block in blocks_of(file, now.problems.append, start=now.size, line=now.line):
            events = decode_block(block, heads(), str(file), now.problems.append)
            gatherer.take(events, block.offset, block.end, block.line)
            now.size, now.line = block.end, block.next_line
            now.whole = block.data.endswith(b"\n")
            if not compressed and now.size - start > _BATCH:
                more, now.fingerprint = True, ""
                break
        now.head, now.tail = end_digests(file, now.size, compressed)
        return _Reading(before, now, gatherer.parts(), is_replaced, more)

    def _known_part(self, file: KnownFile) -> Callable[[str], RunPart | None]:
        def known_part(run_id: str) -> RunPart | None:
            rows = self._db.execute(
                "SELECT part FROM parts WHERE file = ? AND run_id = ?", [file.id, run_id]
            ).fetchall()
            return decode_part(rows[0][0]) if rows else None

        return known_part

    def _remember(self, readings: list[_Reading]) -> None:
        with self._transaction():
            for reading in readings:
                before, now = reading.before, reading.now
                rows = self._db.execute("SELECT seen, size FROM files WHERE name = ?", [now.name]).fetchall()
                if rows != ([(before.fingerprint, before.size)] if before.id is not None else []):
                    continue  # another process has read it in the meantime
                if before.id is not None and reading.is_replaced:
                    self._db.execute("DELETE FROM parts WHERE file = ?", [before.id])
                problems = encode([msgspec.structs.replace(problem, file="") for problem in now.problems])
                values = [now.name, now.fingerprint, now.size, now.line, now.head, now.tail, now.whole, problems]
                done = self._db.execute(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [before.id, *values]
                )
                self._db.executemany(
                    "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?)",
                    (
                        (done.lastrowid, part.run_id, part.root_run_id, encode(part), _run(part))
                        for part in reading.parts
                    ),
                )

    # --- the database ---

    def _connect(self, places: list[Path]) -> tuple[sqlite3.Connection, Path | None]:
        for place in places:
            for _ in range(2):
                try:
                    return opened(place), place
                except (sqlite3.OperationalError, OSError):
                    break  # cannot be opened or written
                except sqlite3.DatabaseError:  # is none, or another version's
                    with suppress(OSError):
                        place.unlink()
        return opened(None), None

    def _safely(self, ask: Callable[[], _T]) -> _T:
        """The answer, if need be that of a database in memory, for which all files are read once more."""
        try:
            return ask()
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            reason = type(error).__name__
            warn_once("log index cannot be used, reading the log itself", reason, reason=reason)
            self._db.close()
            if self._place is not None and not isinstance(error, sqlite3.OperationalError):
                with suppress(OSError):
                    self._place.unlink()  # damaged: the next reader makes it anew
            self._db, self._place = opened(None), None
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


def _pair(run_id: str, root: str) -> tuple[str, str]:
    return run_id, root


def _run(part: RunPart) -> bytes | None:
    """The summary of a run that has both a beginning and an end in this file."""
    return encode(summary_of(part, [], Writers())) if part.start and part.end else None


def _name(file: Path) -> bytes:
    return os.fsencode(file.name.removesuffix(".gz"))


def _size(file: Path) -> int:
    try:
        return os.stat(file).st_size * (10 if file.name.endswith(".gz") else 1)
    except OSError:
        return 0


def _in_lots(ids: Iterable[str]) -> Iterator[list[str]]:
    """`ids` in lists that fit into a question."""
    every = list(ids)
    for start in range(0, len(every), 500):
        yield every[start : start + 500]


def _placeholders(values: list[str]) -> str:
    return ", ".join("?" * len(values))
