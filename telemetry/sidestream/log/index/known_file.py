"""State of one indexed file: how far it was read, and how to recognise it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from sidestream.log.reader import Problem, start_of
from sidestream.logfiles.opening import open_regular

from .packing import decode_problems

_DIGESTED = 1024  # bytes at either end of the part already read, by which a file is recognised


class KnownFile(msgspec.Struct):
    """State of one indexed file."""

    id: int | None
    name: bytes
    """Name as bytes and without `.gz`: compression does not make it another file."""
    fingerprint: str = ""
    """Device, inode, size and mtime when the file was read. Unchanged means the file is unchanged."""
    size: int = 0
    """Bytes read, uncompressed."""
    line: int = 1
    """Number of the next line."""
    head: bytes = b""
    tail: bytes = b""
    whole: bool = True
    """Whether the bytes read end with a newline."""
    problems: list[Problem] = []


def continues(file: Path, size: int, compressed: bool, before: KnownFile) -> bool:
    """Whether `file` still begins with the bytes read before, and reading can continue after them."""
    if not before.whole or not before.size:
        return False
    try:
        if compressed:
            with open(open_regular(file, os.O_RDONLY, follow_links=True), "rb") as source:
                source.seek(-4, os.SEEK_END)
                uncompressed = int.from_bytes(source.read(4), "little")
            return uncompressed == before.size % 2**32 and end_digests(file, before.size, True)[0] == before.head
        return size >= before.size and end_digests(file, before.size, False) == (before.head, before.tail)
    except OSError:
        return False


def end_digests(file: Path, size: int, compressed: bool) -> tuple[bytes, bytes]:
    """Digests of both ends of the first `size` bytes, which identify a file; if compressed, only of the beginning."""
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


def known_file(row: tuple[Any, ...]) -> KnownFile:
    identity, name, fingerprint, size, line, head, tail, whole, problems = row
    return KnownFile(identity, name, fingerprint, size, line, head, tail, bool(whole), decode_problems(problems))
