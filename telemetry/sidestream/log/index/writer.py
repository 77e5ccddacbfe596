"""Writer of an index: the parts of each file, and the row of each run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from .packing import PartPacker
from .parts import RunPart
from .rows import COLUMNS, NAMES, NameTable, Value, joined, row_of

_T = TypeVar("_T")

_PUT_RUN = f"INSERT OR REPLACE INTO runs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_PUT_PART = "INSERT OR REPLACE INTO parts (run, file, part) VALUES (?, ?, ?)"


class IndexWriter:
    """Writer of parts and rows, within one transaction."""

    def __init__(self, db: sqlite3.Connection, packer: PartPacker) -> None:
        self._db = db
        self._packer = packer
        self._names = NameTable(db)
        self._next = 1 + (db.execute("SELECT max(id) FROM runs").fetchone()[0] or 0)

    def keep(self, file: int, parts: Sequence[RunPart]) -> None:
        """Store the parts of `file`, replacing stored parts of the same runs in that file."""
        self._packer.prepare(parts)
        for some in in_lots(parts):
            ids = [part.run_id for part in some]
            sql = f"SELECT run_id, id, file FROM runs WHERE run_id IN ({placeholders(ids)})"
            known = {run_id: (run, its_file) for run_id, run, its_file in self._db.execute(sql, ids)}
            rows: list[list[Value]] = []
            packed: list[tuple[int, int, bytes]] = []
            shared: list[int] = []
            for part in some:
                run, its_file = known.get(part.run_id) or (self._next, file)
                self._next += run == self._next
                packed.append((run, file, self._packer.pack(part)))
                if its_file == file:
                    rows.append(row_of(part, run, file, self._names))
                else:
                    shared.append(run)
            self._db.executemany(_PUT_RUN, rows)
            self._db.executemany(_PUT_PART, packed)
            self._put_joined(shared)

    def forget(self, file: int) -> None:
        """Remove the parts of `file`, and rows of runs without other files."""
        shared = self._db.execute(
            "SELECT id FROM runs WHERE file IS NULL AND id IN (SELECT run FROM parts WHERE file = ?)", [file]
        ).fetchall()
        self._db.execute("DELETE FROM runs WHERE file = ?", [file])
        self._db.execute("DELETE FROM parts WHERE file = ?", [file])
        self._put_joined([run for (run,) in shared])

    def forget_unused_names(self) -> None:
        """Remove names that no run uses any more: agents and tags may be named after people."""
        used = " UNION ALL ".join(f"SELECT {column} FROM runs WHERE {column} IS NOT NULL" for column in NAMES)
        self._db.execute(f"DELETE FROM names WHERE id NOT IN ({used})")
        self._db.execute("DELETE FROM dictionary WHERE NOT EXISTS (SELECT 1 FROM parts)")

    def _put_joined(self, runs: Iterable[int]) -> None:
        for run in runs:
            found = self._db.execute("SELECT file, part FROM parts WHERE run = ?", [run]).fetchall()
            file = found[0][0] if len(found) == 1 else None
            part = joined(self._packer.part(data) for _, data in found)
            self._db.execute(_PUT_RUN, row_of(part, run, file, self._names))


def in_lots(every: Iterable[_T]) -> Iterator[list[_T]]:
    """Split `every` into lists short enough for the parameters of one SQL statement."""
    them = list(every)
    for start in range(0, len(them), 500):
        yield them[start : start + 500]


def placeholders(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
