"""Which files a log consists of, in order of time, and whether somebody still writes to one."""

from __future__ import annotations

import glob
import os
import re
import sys
import zlib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from sidestream.errors import ConfigurationError

Paths: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A folder, a file or a glob, or several of them."""

SUFFIXES = (".jsonl", ".jsonl.gz")
"""How the files of a folder must end to be taken for a log. A file that is named itself may be called anything."""

_FIRST_TIMESTAMP = re.compile(rb'"timestamp":\s*"([^"]{1,40})"')
_UNKNOWN_TIME = float("inf")


def log_files(*paths: str | os.PathLike[str]) -> list[Path]:
    """The log files at `paths` (folders, files, globs), the one that begins first first.

    Of a folder: its `.jsonl` and `.jsonl.gz` files. A file that is there both plain and compressed, as in the moment
    between the two, counts once; what was torn off (`.torn`) or is half compressed (`.part`) does not count.

    Raises `ConfigurationError` where a path leads nowhere. An empty folder is an empty log.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for file in _matching(os.path.expanduser(os.fspath(path))):
            found.setdefault(os.path.realpath(file), Path(file))
    files = [file for real, file in found.items() if not (real.endswith(".gz") and real[:-3] in found)]
    return sorted(files, key=lambda file: (_begun(file), file.name))


def files_of(paths: Paths) -> list[Path]:
    """`log_files` of one path or of several."""
    return log_files(paths) if isinstance(paths, str | os.PathLike) else log_files(*paths)


def _matching(path: str) -> list[str]:
    if os.path.isdir(path):
        files = [os.path.join(path, name) for name in os.listdir(path) if name.endswith(SUFFIXES)]
        return [file for file in files if os.path.isfile(file)]
    if os.path.exists(path):
        return [path]
    if os.path.exists(path + ".gz"):  # compressed since it was listed
        return [path + ".gz"]
    matches = glob.glob(path, recursive=True)
    if not matches:
        raise ConfigurationError(f"no log at {path}: give a folder, a .jsonl or .jsonl.gz file, or a glob of them")
    return [file for match in matches for file in ([match] if os.path.isfile(match) else _matching(match))]


def _begun(file: Path) -> float:
    """Unix time of the first event of `file`."""
    try:
        with open(file, "rb") as source:
            head = source.read(4096)
        if head.startswith(b"\x1f\x8b"):
            head = zlib.decompressobj(wbits=31).decompress(head, 4096)
        found = _FIRST_TIMESTAMP.search(head)
        return datetime.fromisoformat(found[1].decode()).timestamp() if found else _UNKNOWN_TIME
    except (OSError, ValueError, zlib.error):
        return _UNKNOWN_TIME


# --- writers -------------------------------------------------------------------------------------------------------


def is_locked(file: str | os.PathLike[str]) -> bool | None:
    """Whether a writer holds the lock of `file`; None where the system cannot tell.

    A writer with a file of its own holds its lock for as long as it lives; one that shares a file, while it appends.
    """
    try:
        fd = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    try:
        return _is_locked(fd)
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(fd)


if sys.platform == "win32":
    import msvcrt

    def _is_locked(fd: int) -> bool:
        os.lseek(fd, 1 << 62, os.SEEK_SET)  # the byte that writers lock
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return True
        os.lseek(fd, 1 << 62, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
        return False

else:
    import fcntl

    def _is_locked(fd: int) -> bool:
        try:
            # Shared, so that two readers do not take each other for a writer. Closing lets go of it.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
