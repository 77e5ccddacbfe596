"""Undocumented or CPython-only names of the standard library that Sidestream uses, with a probe for each."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from types import FrameType
from typing import Any

from .diagnostics import Probe

EARLY = 100
"""Exit priority in `multiprocessing`: runs before the handlers that join the child's own processes and queues."""


def close_at_child_exit(call: Callable[[], object]) -> None:
    """Call `call` at the end of this process if it is a `multiprocessing` child, where no `atexit` handler runs."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        _finalize(call)


def close_at_exit_of_children(owner: object, call: Callable[[], object]) -> None:
    """Call `call` at the end of each `multiprocessing` child forked from here, while `owner` is alive.

    `close_at_child_exit` is not enough: a starting child first clears its exit handlers, and then runs the functions
    that were registered for after the fork.
    """
    util = sys.modules.get("multiprocessing.util")
    if hasattr(util, "register_after_fork"):
        util.register_after_fork(owner, lambda _: _finalize(call))  # type: ignore[union-attr]


def _finalize(call: Callable[[], object]) -> None:
    util = sys.modules.get("multiprocessing.util")
    if hasattr(util, "Finalize"):
        util.Finalize(None, call, exitpriority=EARLY)  # type: ignore[union-attr]


def frames_of_other_threads() -> Iterator[FrameType]:
    """Innermost frame of each other thread; empty if the interpreter does not expose frames."""
    current_frames: Callable[[], dict[int, FrameType]] = getattr(sys, "_current_frames", dict)
    for thread, frame in current_frames().items():
        if thread != threading.get_ident():
            yield frame


def is_importing(frame: FrameType, importer: str) -> bool:
    """Whether the thread of the innermost frame `frame` is importing a module for code in the folder `importer`.

    A thread that waits for the import of another thread does not count.
    """
    importing, waits = False, frame.f_code.co_name == "acquire"
    each: FrameType | None = frame
    while each is not None:
        file = each.f_code.co_filename
        if file.startswith("<frozen importlib"):
            importing = importing or not waits
        elif importing and file.startswith(importer):
            return True
        else:
            waits = False
        each = each.f_back
    return False


def done_callbacks(future: asyncio.Future[Any]) -> list[Any]:
    """Done callbacks of `future`."""
    return [callback for callback, _ in getattr(future, "_callbacks", None) or ()]


def is_in_expired_wait_for(task: asyncio.Task[Any]) -> bool:
    """Whether `task` is inside an expired `asyncio.wait_for` of Python 3.11.

    Python 3.11 cancels an inner task and waits for the end of it; later versions use `asyncio.timeout`.
    """
    awaiting: Any = task.get_coro()
    while awaiting is not None and sys.version_info < (3, 12):
        code = getattr(awaiting, "cr_code", None)
        if code is not None and (code.co_name, code.co_filename) == ("_cancel_and_wait", asyncio.tasks.__file__):
            return not task.cancelling()
        awaiting = getattr(awaiting, "cr_await", None)
    return False


def probes() -> list[Probe]:
    """Probes of all names. Those of `multiprocessing` hold while the module is not imported."""
    children = "the last events of a child of multiprocessing may be lost"
    return [
        Probe("multiprocessing.util.Finalize", _has("multiprocessing.util", "Finalize"), children),
        Probe(
            "multiprocessing.util.register_after_fork", _has("multiprocessing.util", "register_after_fork"), children
        ),
        Probe(
            "multiprocessing.spawn.get_preparation_data",
            _has("multiprocessing.spawn", "get_preparation_data"),
            "children that multiprocessing spawns under sidestream run are not observed",
        ),
        Probe("sys._getframe", hasattr(sys, "_getframe"), "run_stream() and sidecar.tags() do not work"),
        Probe(
            "sys._current_frames",
            hasattr(sys, "_current_frames"),
            "install() misses agents that other threads are making, and a child forked during an import may hang",
        ),
        Probe("gc.get_referents(coroutine)", _sees_timeouts(), "an asyncio.timeout() around a run reads as cancelled"),
        Probe(
            "asyncio.Future._callbacks",
            hasattr(asyncio.Future, "_callbacks"),
            "a limit of time around a TaskGroup or gather() of runs reads as cancelled",
        ),
    ]


def _has(module: str, name: str) -> bool:
    return module not in sys.modules or hasattr(sys.modules[module], name)


def _sees_timeouts() -> bool:
    class Suspension:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def waiting() -> None:
        limit = asyncio.Timeout(None)
        await Suspension()
        del limit

    coroutine = waiting()
    coroutine.send(None)
    seen = any(isinstance(each, asyncio.Timeout) for each in gc.get_referents(coroutine))
    coroutine.close()
    return seen
