"""The store of runs that a path names."""

from __future__ import annotations

from .files import Paths
from .index.local import LocalLog
from .store import RunStore


def store_of(paths: Paths) -> RunStore:
    """The store that `paths` name: the log files at folders, files and globs.

    Nothing is read yet: that a path leads nowhere is told by the first question.
    """
    return LocalLog(paths)
