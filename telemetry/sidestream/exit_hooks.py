"""Exit hooks: every open sidecar is closed when the process ends, and starts anew in a forked child."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Collection
from typing import Protocol

from .diagnostics import forget


class Closable(Protocol):
    """What the hooks need of a sidecar."""

    def close(self) -> object: ...
    def after_fork(self) -> None: ...


_open: Collection[Closable] = ()


def register(sidecars: Collection[Closable]) -> None:
    """Close those of `sidecars` that are there when the process ends. Called once, when the package is imported."""
    global _open
    _open = sidecars
    atexit.register(_close_all)
    _close_at_multiprocessing_exit()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork_in_child)


def _close_all() -> None:
    for sidecar in list(_open):
        sidecar.close()


def _close_at_multiprocessing_exit() -> None:
    util = sys.modules.get("multiprocessing.util")
    if util is None:
        return
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        util.Finalize(None, _close_all, exitpriority=100)
    # A child that is about to begin clears its handlers first, and then runs what was registered for after the fork.
    util.register_after_fork(_open, lambda _: util.Finalize(None, _close_all, exitpriority=100))


def _after_fork_in_child() -> None:
    forget()
    for sidecar in list(_open):
        sidecar.after_fork()
    _close_at_multiprocessing_exit()
