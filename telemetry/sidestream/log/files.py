"""Log files at given paths, in order of time. Links, pipes and devices inside a folder are ignored."""

from __future__ import annotations

import glob
import os
import stat
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from sidestream.errors import ConfigurationError, UnreadableLogError
from sidestream.logfiles.naming import SUFFIXES, first_timestamp
from sidestream.logfiles.opening import is_plain_file, open_regular

Paths: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A folder, a file or a glob, or several of these."""

_UNKNOWN_TIME = float("inf")


def log_files(*paths: str | os.PathLike[str]) -> list[Path]:
    """Log files at `paths` (folders, files, globs), ordered by the time of their first event.

    A folder contributes its `.jsonl` and `.jsonl.gz` files. A file that exists both plain and compressed, as for a
    moment during compression, counts once; torn lines (`.torn`) and half-compressed files (`.part`) do not count. A
    link is followed if it is named itself, not if it is found in a folder or by a glob.

    Raises `ConfigurationError` if a path does not exist, `UnreadableLogError` if a folder, or a file that is named
    itself, cannot be read. An empty folder is an empty log.
    """
    found: dict[str, Path] = {}
    for path in paths:
        files = matching_files(os.fspath(path))
        if not files and not os.path.isdir(os.path.expanduser(path)):
            raise ConfigurationError(
                f"no log at {path}: give a folder, a .jsonl or .jsonl.gz file, or a glob of them; "
                "a program that is observed writes one: `sidestream run -- python app.py`"
            )
        for file in files:
            found.setdefault(os.path.realpath(file), Path(file))
    files_once = [file for real, file in found.items() if not (real.endswith(".gz") and real[:-3] in found)]
    return sorted(files_once, key=lambda file: (_begun(file), file.name))


def files_of(paths: Paths) -> list[Path]:
    """`log_files` of one path or of several."""
    return log_files(paths) if isinstance(paths, str | os.PathLike) else log_files(*paths)


def matching_files(path: str) -> list[str]:
    """Log files now at `path`, a folder, a file or a glob; empty if nothing is there.

    Raises `ConfigurationError` for a pipe or a device, `UnreadableLogError` as `log_files` does.
    """
    path = os.path.expanduser(path)
    try:
        kind = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if os.path.isfile(path + ".gz"):  # compressed after the caller listed it
            return [path + ".gz"]
        return [file for match in glob.glob(path, recursive=True) for file in _found_by_glob(match)]
    except OSError as error:
        raise UnreadableLogError.of(path, error) from None
    if stat.S_ISDIR(kind):
        return _in_folder(path)
    if not stat.S_ISREG(kind):
        raise ConfigurationError(f"{path} is no log but a pipe or a device: give a folder, a file or a glob")
    try:
        os.close(open_regular(path, os.O_RDONLY, follow_links=True))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnreadableLogError.of(path, error) from None
    return [path]


def _found_by_glob(match: str) -> list[str]:
    if os.path.isdir(match):
        return _in_folder(match)
    return [match] if is_plain_file(match) else []


def _in_folder(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise UnreadableLogError.of(folder, error) from None
    files = (os.path.join(folder, name) for name in names if name.endswith(SUFFIXES))
    return [file for file in files if is_plain_file(file)]


def _begun(file: Path) -> float:
    """Unix time of the first event of `file`; infinity if unknown."""
    try:
        with open(open_regular(file, os.O_RDONLY, follow_links=True), "rb") as source:
            head = source.read(4096)
        if head.startswith(b"\x1f\x8b"):
            head = zlib.decompressobj(wbits=31).decompress(head, 4096)
    except (OSError, zlib.error):  # reported when the file is read
        return _UNKNOWN_TIME
    begun = first_timestamp(head)
    return _UNKNOWN_TIME if begun is None else begun
