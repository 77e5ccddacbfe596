"""Exit hooks: every open sidecar is closed when the process ends, and starts anew in a forked child.

A process ends by the interpreter's exit, by the exit of a `multiprocessing` child, which runs no exit handlers, by a
signal whose default action kills it, or by a kill that nobody sees. The first three are covered here.
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
"""Signals that ask a program to end. Their handlers are only set where the default action would kill the process."""


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
    close_at_child_exit(_close_all)
    close_at_exit_of_children(_open, _close_all)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork_in_child)


def handle_signals() -> None:
    """Have a signal that would kill the process close all sidecars first, unless `SIDESTREAM_SIGNALS=0`.

    Only the main thread may set handlers; from another one, this does nothing.
    """
    if threading.current_thread() is threading.main_thread() and os.environ.get("SIDESTREAM_SIGNALS") != "0":
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _close_and_die)


def restore_signals() -> None:
    """Put the default actions back once no sidecar is left."""
    if not _open and threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is _close_and_die:
                signal.signal(number, signal.SIG_DFL)


def _close_all() -> None:
    for sidecar in list(_open):
        sidecar.close()


def _close_and_die(number: int, frame: FrameType | None) -> None:
    """Deliver what is pending, and then end the process as the signal does by default.

    A server that has shut down gracefully puts back the handlers that it found and raises the signal again: without
    this, the ends of the last runs would die with it. A second signal kills at once.
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
