"""What a collector tells of itself to the processes whose log it follows: one small file, replaced as a whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

import msgspec

from sidestream.stats import ExporterStats

from .opening import open_regular

MAX_BYTES = 1_000_000


class CollectorStatus(msgspec.Struct, kw_only=True):
    """Status of a collector, as of its last report."""

    pid: int
    target: str = ""
    """Digest of its exporters as they stand in settings, which may be secret."""
    behind_bytes: int | None = None
    exporters: dict[str, ExporterStats] = {}
    error: str | None = None
    """Why it could not work, where it has ended for that."""

    @staticmethod
    def target_of(specs: Iterable[str]) -> str:
        """Digest of exporters as they stand in settings."""
        return hashlib.blake2b("\0".join(specs).encode(), digest_size=16).hexdigest()


class CollectorSettings(msgspec.Struct, kw_only=True):
    """Settings of a collector, handed over in the environment: addresses may hold keys, and arguments are public."""

    log: str
    exporters: list[str]
    linger: float
    patience: float
    lock: int | None = None
    """Descriptor of its lock, which it has inherited; None where it has to lock by itself."""


SETTINGS_VARIABLE = "SIDESTREAM_COLLECT"


def read_status(path: str) -> CollectorStatus | None:
    """The status at `path`; None where none can be read. Never raises."""
    try:
        with open(open_regular(path, os.O_RDONLY), "rb") as file:
            return msgspec.json.decode(file.read(MAX_BYTES), type=CollectorStatus)
    except (OSError, msgspec.MsgspecError):
        return None


def write_status(path: str, status: CollectorStatus) -> None:
    """Replace the status at `path`. Raises `OSError`."""
    part = path + ".part"
    with open(part, "wb", opener=lambda name, flags: open_regular(name, flags, own=True)) as file:
        file.write(msgspec.json.encode(status))
    os.replace(part, path)
