"""Choice of the store of runs that a path or an address names."""

from __future__ import annotations

import os

from sidestream.clickhouse.connection import Address
from sidestream.errors import ConfigurationError

from .files import Paths
from .index.local import LocalLog
from .store import RunStore

BEGINNINGS = ("clickhouse://", "clickhouses://")
"""URL schemes of a log in ClickHouse."""


def store_of(paths: Paths) -> RunStore:
    """Store at `paths`: log files at folders, files and globs, or tables at `clickhouse://HOST:PORT/NAME`.

    Nothing is read yet: a missing path is reported by the first query. Raises `ConfigurationError` if an address of
    ClickHouse is invalid or is not the only path.
    """
    addresses = addresses_among(paths)
    if not addresses:
        return LocalLog(paths)
    from .clickhouse.reading import ClickHouseLog

    every = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if len(every) > 1:
        raise ConfigurationError(
            f"{Address.parse(addresses[0])}: a log in ClickHouse is read alone: give no other path"
        )
    return ClickHouseLog(addresses[0])


def addresses_among(paths: Paths) -> list[str]:
    """ClickHouse addresses among `paths`."""
    every = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [path for path in every if isinstance(path, str) and path.startswith(BEGINNINGS)]
