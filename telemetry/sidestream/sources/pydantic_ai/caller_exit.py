"""Whether it was the caller that ended a run: by leaving, by cancelling, by a limit of time, or with an error.

The run of `run_stream_events()` is a background task that is cancelled whether its consumer leaves or is cancelled, so
the hooks see the same. What tells the two apart is the exception with which the context around the events is left, and
nothing but that context sees it. Its `__aexit__` is therefore watched while at least one sidecar is open. Where
pydantic-ai has no such class, a consumer that leaves while an event is in flight reads as cancelled.
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
"""A consumer that leaves with one of these was made to. The last comes from a signal handler, mostly."""

_listeners: list[Callable[[str, bool], None]] = []
_lock = threading.Lock()
_original: Any = None


def listen(listener: Callable[[str, bool], None]) -> None:
    """Have `listener(run_id, of_its_own_accord)` called before a run is torn down because its consumer leaves."""
    global _original
    with _lock:
        _listeners.append(listener)
        cls = compat.stream_events_class()
        if _original is not None or cls is None:
            return
        original = _original = cls.__aexit__

        @functools.wraps(original)
        async def __aexit__(self: Any, exc_type: Any, exc_value: Any, traceback: Any) -> Any:
            _tell(self, exc_type)
            return await original(self, exc_type, exc_value, traceback)

        cls.__aexit__ = __aexit__


def stop_listening(listener: Callable[[str, bool], None]) -> None:
    """Undo `listen`; with the last listener, the class is as it was."""
    global _original
    with _lock:
        if listener in _listeners:
            _listeners.remove(listener)
        if not _listeners and _original is not None:
            compat.stream_events_class().__aexit__ = _original
            _original = None


def after_fork() -> None:
    """In a forked child: the lock may have been held at the fork."""
    global _lock
    _lock = threading.Lock()


def _tell(context: Any, exc_type: type[BaseException] | None) -> None:
    try:
        run_id = compat.run_id_of(context)
        if run_id is not None:
            accord = exc_type is None or not issubclass(exc_type, _INTERRUPTED)
            for listener in list(_listeners):
                listener(run_id, accord)
    except Exception as error:  # another pydantic-ai than the one this was written for: see above for what is lost
        kind = type(error).__qualname__
        warn_once("cannot tell who ended a streamed run", kind, exception=kind)


def raised_by_consumer(error: BaseException) -> bool:
    """Whether `error` was raised by the code inside the caller's `async with agent.run_stream()` or `iter()`.

    Such an error is thrown into pydantic-ai's context managers, so in its traceback the last line of pydantic-ai's is
    a `yield`, and all that follows is the caller's. In an error of the run's own, pydantic-ai *calls* what fails.
    """
    last: types.TracebackType | None = None
    trace = error.__traceback__
    while trace is not None:
        if compat.is_library_frame(trace):
            last = trace
        trace = trace.tb_next
    return last is not None and last.tb_next is not None and compat.is_at_yield(last)


def is_cancelled(caller: asyncio.Task[Any] | None, leaving: bool | None) -> bool:
    """Whether a run that is being torn down is so because somebody cancelled its caller.

    Args:
        caller: The task that began the run.
        leaving: How the consumer of `run_stream_events()` left, as far as it has.
    """
    if leaving is not None or caller is None:
        return leaving is False
    if not _is_pydantic_ai(caller):
        return caller.cancelling() > 0
    # The task behind `run_stream_events()`, cancelled in any case. Its consumer has not come to leave: it was cancelled
    # on the way in, or with every other task of a program that is interrupted; or there is no consumer any more.
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # the garbage collector, with no loop running
        return False
    return any(task.cancelling() and not _is_pydantic_ai(task) for task in tasks)


def _is_pydantic_ai(task: asyncio.Task[Any]) -> bool:
    """Whether `task` is one that pydantic-ai, or a library that it uses, has made for itself."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(_library_folders())


@functools.cache
def _library_folders() -> tuple[str, ...]:
    specs = [importlib.util.find_spec(name) for name in ("pydantic_ai", "pydantic_graph", "anyio")]
    return tuple(os.path.join(os.path.dirname(spec.origin), "") for spec in specs if spec and spec.origin)
