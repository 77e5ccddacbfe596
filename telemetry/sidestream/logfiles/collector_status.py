"""Status file and settings of a collector. Processes read the status of the collector that follows their log."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

import msgspec

from sidestream.stats import ExporterStats

from .opening import open_regular

MAX_BYTES = 1_000_000


class CollectorStatus(msgspec.Struct, kw_only=True):
    """Status of a collector at the time of its last report."""

    pid: int
    target: str = ""
    """Digest of the exporter specifications, which may contain secrets."""
    behind_bytes: int | None = None
    exporters: dict[str, ExporterStats] = {}
    error: str | None = None
    """Message of the error that made the collector end; None if there was none."""

    @staticmethod
    def target_of(specs: Iterable[str]) -> str:
        """Digest of exporter specifications, as they are written in settings."""
        return hashlib.blake2b("\0".join(specs).encode(), digest_size=16).hexdigest()


class CollectorSettings(msgspec.Struct, kw_only=True):
    """Settings of a collector, passed in the environment: addresses may hold keys, and `ps` shows arguments."""

    log: str
    exporters: list[str]
    linger: float
    patience: float
    lock: int | None = None
    """Descriptor of the inherited collector lock; None if the collector has to take the lock itself."""


SETTINGS_VARIABLE = "SIDESTREAM_COLLECT"


def read_status(path: str) -> CollectorStatus | None:
    """Read the status at `path`; None if the file is missing or unreadable. Never raises."""
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
