"""Exit hooks: close every open sidecar at the end of the process, and restart sidecars in a forked child.

Covered are the exit of the interpreter, the exit of a `multiprocessing` child (which runs no `atexit` handlers), and
signals whose default action kills the process. SIGKILL cannot be caught. A fork waits for imports in progress.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  Registers a hook that must run after `_wait_for_imports`.
import logging  # noqa: F401  The same: an import that waits for the lock of such a hook would never end.
import os
import signal
import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import FrameType
from typing import Protocol

from .diagnostics import forget
from .stdlib_compat import close_at_child_exit, close_at_exit_of_children, frames_of_other_threads, is_importing

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Termination signals. Handlers replace the default action only, never a handler of the program."""

IMPORT_SECONDS = 5.0
"""Maximum seconds for which a fork waits for imports of other threads."""

_PACKAGE = str(Path(__file__).parent)


class Closable(Protocol):
    """Interface of a sidecar for the exit hooks."""

    def close(self) -> object: ...
    def after_fork(self) -> None: ...


_open: Collection[Closable] = ()


def register(sidecars: Collection[Closable]) -> None:
    """Close the members of `sidecars` at the end of the process. Called once, when the package is imported."""
    global _open
    _open = sidecars
    atexit.register(_close_all)
    close_at_child_exit(_close_all)
    close_at_exit_of_children(_open, _close_all)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_wait_for_imports, after_in_child=_after_fork_in_child)


def handle_signals() -> None:
    """Close all sidecars before a termination signal kills the process, unless `SIDESTREAM_SIGNALS=0`.

    No-op outside of the main thread, since only the main thread may set signal handlers.
    """
    if threading.current_thread() is threading.main_thread() and os.environ.get("SIDESTREAM_SIGNALS") != "0":
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _close_and_die)


def restore_signals() -> None:
    """Restore the default signal actions if no sidecar is open."""
    if not _open and threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is _close_and_die:
                signal.signal(number, signal.SIG_DFL)


def _close_all() -> None:
    for sidecar in list(_open):
        sidecar.close()


def _close_and_die(number: int, frame: FrameType | None) -> None:
    """Close all sidecars, then kill the process by the default action of the signal.

    A server such as uvicorn restores previous handlers after its graceful shutdown and raises the signal again: the
    ends of the last runs would be lost without this handler. A second signal kills at once.
    """
    signal.signal(number, signal.SIG_DFL)
    try:
        _close_all()
    finally:
        signal.raise_signal(number)


def _wait_for_imports() -> None:
    """Wait until no other thread is importing a module for Sidestream, such as the library of an exporter.

    A child inherits the locks of modules, but not the threads that would release them: an import of the same module
    would block forever in the child, in a worker as well as in the application.
    """
    deadline = time.monotonic() + IMPORT_SECONDS
    while any(is_importing(frame, _PACKAGE) for frame in frames_of_other_threads()) and time.monotonic() < deadline:
        time.sleep(0.001)


def _after_fork_in_child() -> None:
    forget()
    for sidecar in list(_open):
        sidecar.after_fork()
    close_at_child_exit(_close_all)
    close_at_exit_of_children(_open, _close_all)
