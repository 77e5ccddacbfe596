"""Index of the log files in a folder, kept beside them, so that a question need not read them all again.

One SQLite database a folder, in `.sidestream-index/`: of each file how far it was read, and what it holds of each run
(`parts`: numbers and names, no content). A file that has grown is read on from there; one that was replaced is read
anew. It may be deleted at any time. Where it cannot be written, it is in the user's cache; where not even there, in
memory, for this once.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args

import msgspec

from sidestream.diagnostics import warn_once
from sidestream.events import AnyEvent, LLMChunkEvent
from sidestream.log.reader import Problem, blocks_of, decode_block, is_compressed, start_of
from sidestream.log.runs.summary import RunSummary, summary_of
from sidestream.log.writers import Writers
from sidestream.logfiles.opening import open_regular

from .parts import ChunkHead, Facts, Gatherer, RunPart

FOLDER = ".sidestream-index"
WORTHWHILE = 4 * 1024 * 1024
"""Bytes of log in a folder from which an index is kept: less is read quicker than looked up."""

_DIGESTED = 1024  # bytes at either end of what was read, by which a file is recognised
_BATCH = 16 * 1024 * 1024  # bytes of log, or
_BATCH_FILES = 200  # files, that are remembered at once
_PAGE = 1000  # runs in one query

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY, name BLOB UNIQUE NOT NULL, seen TEXT NOT NULL, size INTEGER NOT NULL, line INTEGER NOT NULL,
    head BLOB NOT NULL, tail BLOB NOT NULL, whole INTEGER NOT NULL, problems BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS parts (
    file INTEGER NOT NULL, run_id TEXT NOT NULL, root TEXT NOT NULL, part BLOB NOT NULL, run BLOB,
    UNIQUE (file, run_id));
CREATE INDEX IF NOT EXISTS parts_by_run ON parts (run_id);
CREATE INDEX IF NOT EXISTS parts_by_root ON parts (root)
"""

_T = TypeVar("_T")


def _encode(thing: object) -> bytes:
    try:
        return _encode_msgpack(thing)
    except OverflowError:  # MessagePack has no integers of more than 64 bits
        return msgspec.json.encode(thing)


def _decoder(kind: type[_T]) -> Callable[[bytes], _T]:
    from_msgpack, from_json = msgspec.msgpack.Decoder(kind).decode, msgspec.json.Decoder(kind).decode
    return lambda data: from_json(data) if data[:1] in (b"[", b"{") else from_msgpack(data)


_encode_msgpack = msgspec.msgpack.Encoder().encode
_decode_part = _decoder(RunPart)
_decode_facts = _decoder(Facts)
_decode_run = _decoder(RunSummary)
_decode_problems = _decoder(list[Problem])


class _Known(msgspec.Struct):
    """State of one file: how far it was read, and what it is recognised by."""

    id: int | None
    name: bytes
    """As the system has it, and without `.gz`: compressed, it is the same file."""
    fingerprint: str = ""
    """Fingerprint (device, inode, size, mtime) of the file when it was read: the same again is the same file."""
    size: int = 0
    """Bytes, uncompressed."""
    line: int = 1
    """Number of the line that comes next."""
    head: bytes = b""
    tail: bytes = b""
    whole: bool = True
    """Whether what was read ends with a newline."""
    problems: list[Problem] = []


class _Reading(msgspec.Struct):
    """Result of reading what was new in one file."""

    before: _Known
    now: _Known
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
            places = [folder / FOLDER / "index.sqlite", _cache_place(folder)]
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
            return self._ask(_decode_part, sql, [_name(file)])
        return [
            part
            for some in _in_lots(run_ids)
            for part in self._ask(_decode_part, f"{sql} AND run_id IN ({_placeholders(some)})", [_name(file), *some])
        ]

    def ids(self, file: Path) -> list[tuple[str, bool]]:
        """The runs of which `file` holds something, and of each whether it holds beginning and end."""
        sql = "SELECT run_id, run IS NOT NULL FROM parts WHERE file = (SELECT id FROM files WHERE name = ?)"
        return self._ask(lambda run_id, whole: (run_id, bool(whole)), sql, [_name(file)])

    def runs(self, file: Path, *, facts: bool = False) -> Iterator[tuple[RunSummary, Facts | None]]:
        """The runs that `file` holds from beginning to end, with the single requests and tool calls if wanted."""
        files = [str(file)]

        def made(run: bytes, part: bytes | None) -> tuple[RunSummary, Facts | None]:
            summary = _decode_run(run)
            msgspec.structs.force_setattr(summary, "files", files)
            return summary, None if part is None else _decode_facts(part)

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
        rows = self._ask(_decode_problems, "SELECT problems FROM files WHERE name = ?", [_name(file)])
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
        known = {row[1]: _known(row) for row in self._db.execute("SELECT * FROM files")}
        gone = [each.id for name, each in known.items() if name not in names and not self._is_there(name)]
        if gone:
            with self._transaction():
                self._db.executemany("DELETE FROM parts WHERE file = ?", [(each,) for each in gone])
                self._db.executemany("DELETE FROM files WHERE id = ?", [(each,) for each in gone])
        pending: list[_Reading] = []
        size = 0
        for name, file in names.items():
            before = known.get(name) or _Known(None, name)
            while (reading := self._read(file, before)) is not None:
                pending.append(reading)
                size += reading.now.size
                if reading.more or size > _BATCH or len(pending) >= _BATCH_FILES:
                    self._remember(pending)
                    pending, size = [], 0
                if not reading.more:
                    break
                rows = self._db.execute("SELECT * FROM files WHERE name = ?", [name]).fetchall()
                before = _known(rows[0]) if rows else _Known(None, name)
        if pending:
            self._remember(pending)

    def _is_there(self, name: bytes) -> bool:
        file = os.fsdecode(name)
        return (self._folder / file).exists() or (self._folder / f"{file}.gz").exists()

    def _read(self, file: Path, before: _Known) -> _Reading | None:
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
        is_replaced = before.id is None or not status or not _continues(file, status.st_size, compressed, before)
        now = (
            _Known(before.id, before.name, fingerprint)
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
        now.head, now.tail = _end_digests(file, now.size, compressed)
        return _Reading(before, now, gatherer.parts(), is_replaced, more)

    def _known_part(self, file: _Known) -> Callable[[str], RunPart | None]:
        def known_part(run_id: str) -> RunPart | None:
            rows = self._db.execute(
                "SELECT part FROM parts WHERE file = ? AND run_id = ?", [file.id, run_id]
            ).fetchall()
            return _decode_part(rows[0][0]) if rows else None

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
                problems = _encode([msgspec.structs.replace(problem, file="") for problem in now.problems])
                values = [now.name, now.fingerprint, now.size, now.line, now.head, now.tail, now.whole, problems]
                done = self._db.execute(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [before.id, *values]
                )
                self._db.executemany(
                    "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?)",
                    (
                        (done.lastrowid, part.run_id, part.root_run_id, _encode(part), _run(part))
                        for part in reading.parts
                    ),
                )

    # --- the database ---

    def _connect(self, places: list[Path]) -> tuple[sqlite3.Connection, Path | None]:
        for place in places:
            for _ in range(2):
                try:
                    return _opened(place), place
                except (sqlite3.OperationalError, OSError):
                    break  # cannot be opened or written
                except sqlite3.DatabaseError:  # is none, or another version's
                    with suppress(OSError):
                        place.unlink()
        return _opened(None), None

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
            self._db, self._place = _opened(None), None
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


def _opened(place: Path | None) -> sqlite3.Connection:
    """The database at `place`, or one in memory. Raises `OSError` or `sqlite3.Error`."""
    if place is not None:
        os.makedirs(place.parent, mode=0o700, exist_ok=True)
        os.close(open_regular(place, os.O_RDWR | os.O_CREAT, own=True))
    # One thread at a time uses an index, though not always the one that made it.
    db = sqlite3.connect(place or ":memory:", timeout=10, isolation_level=None, check_same_thread=False)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _version()):
            raise sqlite3.DatabaseError(f"index of version {version}")
        if version == 0:
            db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_version()}")
            db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _cache_place(folder: Path) -> Path:
    cache_home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = hashlib.blake2b(os.path.realpath(folder).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return Path(cache_home) / "sidestream" / f"{name}.sqlite"


def _known(row: tuple[Any, ...]) -> _Known:
    identity, name, fingerprint, size, line, head, tail, whole, problems = row
    return _Known(identity, name, fingerprint, size, line, head, tail, bool(whole), _decode_problems(problems))


def _run(part: RunPart) -> bytes | None:
    """The summary of a run that has both a beginning and an end in this file."""
    return _encode(summary_of(part, [], Writers())) if part.start and part.end else None


def _name(file: Path) -> bytes:
    return os.fsencode(file.name.removesuffix(".gz"))


def _size(file: Path) -> int:
    try:
        return os.stat(file).st_size * (10 if file.name.endswith(".gz") else 1)
    except OSError:
        return 0


def _continues(file: Path, size: int, compressed: bool, before: _Known) -> bool:
    """Whether `file` begins with what was read of it before, and that can be gone on from."""
    if not before.whole or not before.size:
        return False
    try:
        if compressed:
            with open(open_regular(file, os.O_RDONLY, follow_links=True), "rb") as source:
                source.seek(-4, os.SEEK_END)
                uncompressed = int.from_bytes(source.read(4), "little")
            return uncompressed == before.size % 2**32 and _end_digests(file, before.size, True)[0] == before.head
        return size >= before.size and _end_digests(file, before.size, False) == (before.head, before.tail)
    except OSError:
        return False


def _end_digests(file: Path, size: int, compressed: bool) -> tuple[bytes, bytes]:
    """Digests of both ends of the first `size` bytes, which identify a file; if compressed, of the first end alone."""
    try:
        head = start_of(file, min(size, _DIGESTED))
        if compressed:
            return _digest(head), b""
        with open(open_regular(file, os.O_RDONLY, follow_links=True), "rb") as source:
            source.seek(max(0, size - _DIGESTED))
            return _digest(head), _digest(source.read(min(size, _DIGESTED)))
    except OSError:
        return b"", b""


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _in_lots(ids: Iterable[str]) -> Iterator[list[str]]:
    """`ids` in lists that fit into a question."""
    every = list(ids)
    for start in range(0, len(every), 500):
        yield every[start : start + 500]


def _placeholders(values: list[str]) -> str:
    return ", ".join("?" * len(values))


@cache
def _version() -> int:
    """Of what is kept, by its shape: an index of another version is thrown away."""
    return (
        zlib.crc32(_SCHEMA.encode() + msgspec.json.encode(msgspec.json.schema(tuple[RunPart, RunSummary, Problem])))
        >> 1
        | 1
    )


@cache
def heads() -> msgspec.json.Decoder[Any]:
    """Decodes every event but what is in an `llm_chunk`."""
    members = [event for event in get_args(AnyEvent) if event is not LLMChunkEvent]
    return msgspec.json.Decoder(Union[tuple([ChunkHead, *members])])  # noqa: C409, UP007
