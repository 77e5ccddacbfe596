"""SQLite database of an index: its location, tables and version."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import zlib
from functools import cache
from pathlib import Path

import msgspec

from sidestream.log.reader import Problem
from sidestream.logfiles.opening import open_regular

from .parts import RunPart

FOLDER = ".sidestream-index"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY, name BLOB UNIQUE NOT NULL, seen TEXT NOT NULL, size INTEGER NOT NULL, line INTEGER NOT NULL,
    head BLOB NOT NULL, tail BLOB NOT NULL, whole INTEGER NOT NULL, problems BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS names (
    id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, text TEXT NOT NULL, UNIQUE (kind, text));
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, run_id TEXT UNIQUE NOT NULL, root TEXT, trace, file INTEGER, is_outer INTEGER NOT NULL,
    started INTEGER, duration, cost, tokens, first_token, own_cost, bounds INTEGER NOT NULL,
    attempt INTEGER, attempt_of TEXT,
    agent INTEGER NOT NULL, conversation INTEGER NOT NULL, models INTEGER NOT NULL, tools INTEGER NOT NULL,
    tags INTEGER NOT NULL, outcome INTEGER, scores INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS parts (
    run INTEGER NOT NULL, file INTEGER NOT NULL, part BLOB NOT NULL, UNIQUE (run, file));
CREATE TABLE IF NOT EXISTS dictionary (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS runs_by_start ON runs (started) WHERE outcome IS NOT NULL;
CREATE INDEX IF NOT EXISTS outer_runs_by_start ON runs (started) WHERE outcome IS NOT NULL AND is_outer = 1;
CREATE INDEX IF NOT EXISTS runs_by_root ON runs (root) WHERE root IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_without_end ON runs (id) WHERE outcome IS NULL;
CREATE INDEX IF NOT EXISTS runs_in_several_files ON runs (id) WHERE file IS NULL
"""
"""`runs` has one row for each run across all files, `parts` one row for each run and file. In `runs`, `root` is null if
the run is its own root, `file` if several files hold the run, `outcome` until the run has ended.
"""


def opened(place: Path | None) -> sqlite3.Connection:
    """Open the database at `place`, or one in memory if None. Raises `OSError` or `sqlite3.Error`."""
    if place is not None:
        os.makedirs(place.parent, mode=0o700, exist_ok=True)
        os.close(open_regular(place, os.O_RDWR | os.O_CREAT, own=True))
    # An index is used by one thread at a time, but not always by the thread that created it.
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


def cache_place(folder: Path) -> Path:
    cache_home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = hashlib.blake2b(os.path.realpath(folder).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return Path(cache_home) / "sidestream" / f"{name}.sqlite"


@cache
def _version() -> int:
    """Version of the stored data, derived from its schema. An index of another version is discarded."""
    return zlib.crc32(_SCHEMA.encode() + msgspec.json.encode(msgspec.json.schema(tuple[RunPart, Problem]))) >> 1 | 1
