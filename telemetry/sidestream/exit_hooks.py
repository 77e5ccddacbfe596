"""Exit hooks: close every open sidecar at the end of the process, and restart sidecars in a forked child.

Covered are the exit of the interpreter, the exit of a `multiprocessing` child (which runs no `atexit` handlers), and
signals whose default action kills the process. SIGKILL cannot be caught.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Collection
from types import FrameType
from typing import Protocol

from .diagnostics import forget
from .stdlib_compat import close_at_child_exit, close_at_exit_of_children

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Termination signals. Handlers replace the default action only, never a handler of the program."""


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
        os.register_at_fork(after_in_child=_after_fork_in_child)


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


def _after_fork_in_child() -> None:
    forget()
    for sidecar in list(_open):
        sidecar.after_fork()
    close_at_child_exit(_close_all)
    close_at_exit_of_children(_open, _close_all)
