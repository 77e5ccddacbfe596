"""Log files at given paths, in order of time."""

from __future__ import annotations

import glob
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from sidestream.errors import ConfigurationError
from sidestream.logfiles.naming import SUFFIXES, first_timestamp

Paths: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A folder, a file or a glob, or several of them."""

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
    except (OSError, zlib.error):
        return _UNKNOWN_TIME
    begun = first_timestamp(head)
    return _UNKNOWN_TIME if begun is None else begun
