"""Whether it was the caller that ended a run: by leaving, or with an error of its own.

The run of `run_stream_events()` is a background task that is cancelled whether its consumer leaves or is cancelled, so
the hooks see the same. What tells the two apart is the exception with which the context around the events is left, and
nothing but that context sees it. Its `__aexit__` is therefore watched while at least one sidecar is open. Where
pydantic-ai has no such class, a consumer that leaves while an event is in flight reads as cancelled.
"""

from __future__ import annotations

import asyncio
import functools
import linecache
import threading
import types
from collections.abc import Callable
from typing import Any

_listeners: list[Callable[[str, bool], None]] = []
_lock = threading.Lock()
_original: Any = None


def _context_class() -> Any:
    from pydantic_ai.agent import abstract

    return getattr(abstract, "_RunStreamEventsContext", None)


def listen(listener: Callable[[str, bool], None]) -> None:
    """Have `listener(run_id, of_its_own_accord)` called before a run is torn down because its consumer leaves."""
    global _original
    with _lock:
        _listeners.append(listener)
        cls = _context_class()
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
            _context_class().__aexit__ = _original
            _original = None


def after_fork() -> None:
    """In a forked child: the lock may have been held at the fork."""
    global _lock
    _lock = threading.Lock()


def _tell(context: Any, exc_type: type[BaseException] | None) -> None:
    try:
        agent_run = context._iterator._binding.agent_run
        if agent_run is not None:
            accord = exc_type is None or not issubclass(exc_type, asyncio.CancelledError)
            for listener in list(_listeners):
                listener(agent_run.run_id, accord)
    except Exception:
        pass  # another pydantic-ai than the one this was written for: see above for what is lost


def raised_by_consumer(error: BaseException) -> bool:
    """Whether `error` was raised by the code inside the caller's `async with agent.run_stream()` or `iter()`.

    Such an error is thrown into pydantic-ai's context managers, so in its traceback the last line of pydantic-ai's is
    a `yield`, and all that follows is the caller's. In an error of the run's own, pydantic-ai *calls* what fails.
    """
    last: types.TracebackType | None = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith(("pydantic_ai", "pydantic_graph")):
            last = trace
        trace = trace.tb_next
    if last is None or last.tb_next is None:
        return False
    line = linecache.getline(last.tb_frame.f_code.co_filename, last.tb_lineno)
    return line.lstrip().startswith("yield")
