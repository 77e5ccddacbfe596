"""Detection of runs that their caller ended: by leaving, cancellation, a time limit, or an error.

`run_stream_events()` runs in a background task, which is cancelled both when its consumer leaves and when the consumer
is cancelled, so the hooks cannot distinguish the two. Only the context manager around the events sees the exception of
the consumer. Its `__aexit__` is therefore wrapped while at least one sidecar is open. If the class does not exist in
the installed pydantic-ai, a consumer that leaves during an event is recorded as cancelled.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import os
import threading
import types
from collections.abc import Callable
from typing import Any

from sidestream.diagnostics import warn_once

from . import compat

_INTERRUPTED = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
"""Exceptions of an interrupted consumer, which does not leave voluntarily. Signal handlers raise SystemExit."""

_listeners: list[Callable[[str, bool], None]] = []
_lock = threading.Lock()
_original: Any = None


def listen(listener: Callable[[str, bool], None]) -> None:
    """Call `listener(run_id, of_its_own_accord)` before a run is torn down because its consumer leaves."""
    global _original
    with _lock:
        _listeners.append(listener)
        cls = compat.stream_events_class()
        if _original is not None or cls is None:
            return
        original = _original = cls.__aexit__

        @functools.wraps(original)
        async def __aexit__(self: Any, exc_type: Any, exc_value: Any, traceback: Any) -> Any:
            _notify(self, exc_type)
            return await original(self, exc_type, exc_value, traceback)

        cls.__aexit__ = __aexit__


def stop_listening(listener: Callable[[str, bool], None]) -> None:
    """Undo `listen`; restores the class after the last listener."""
    global _original
    with _lock:
        if listener in _listeners:
            _listeners.remove(listener)
        if not _listeners and _original is not None:
            compat.stream_events_class().__aexit__ = _original
            _original = None


def after_fork() -> None:
    """Replace the lock in a forked child, since another thread may have held the lock at the fork."""
    global _lock
    _lock = threading.Lock()


def _notify(context: Any, exc_type: type[BaseException] | None) -> None:
    try:
        run_id = compat.run_id_of(context)
        if run_id is not None:
            of_its_own_accord = exc_type is None or not issubclass(exc_type, _INTERRUPTED)
            for listener in list(_listeners):
                listener(run_id, of_its_own_accord)
    except Exception as error:  # unknown version of pydantic-ai; the module docstring states the loss
        kind = type(error).__qualname__
        warn_once("cannot determine who ended a streamed run", kind, exception=kind)


def raised_by_consumer(error: BaseException) -> bool:
    """Whether code inside the caller's `async with agent.run_stream()` or `iter()` raised `error`.

    Such an error is thrown into pydantic-ai's context managers: in the traceback, the last frame of pydantic-ai is at a
    `yield`, followed by frames of the caller. For an error of the run, the last frame of pydantic-ai is at a call.
    """
    last: types.TracebackType | None = None
    trace = error.__traceback__
    while trace is not None:
        if compat.is_library_frame(trace):
            last = trace
        trace = trace.tb_next
    return last is not None and last.tb_next is not None and compat.is_at_yield(last)


def is_cancelled(caller: asyncio.Task[Any] | None, leaving: bool | None) -> bool:
    """Whether the teardown of a run results from a cancellation of its caller.

    Args:
        caller: Task that started the run.
        leaving: How the consumer of `run_stream_events()` left; None if unknown.
    """
    if leaving is not None or caller is None:
        return leaving is False
    if not _is_pydantic_ai(caller):
        return caller.cancelling() > 0
    # The caller is the task behind `run_stream_events()`, which is always cancelled. Its consumer never left the
    # context: the consumer was cancelled on entry, together with all tasks of an interrupted program, or no longer
    # exists.
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # garbage collection without a running loop
        return False
    return any(task.cancelling() and not _is_pydantic_ai(task) for task in tasks)


def _is_pydantic_ai(task: asyncio.Task[Any]) -> bool:
    """Whether pydantic-ai, or a library that pydantic-ai uses, created `task`."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(_library_folders())


@functools.cache
def _library_folders() -> tuple[str, ...]:
    specs = [importlib.util.find_spec(name) for name in ("pydantic_ai", "pydantic_graph", "anyio")]
    return tuple(os.path.join(os.path.dirname(spec.origin), "") for spec in specs if spec and spec.origin)
