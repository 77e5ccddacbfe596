"""Detection of tasks cancelled by a time limit: `asyncio.timeout`, `asyncio.wait_for`, anyio's `fail_after` and others.

A limit cancels the task that entered it, and the cancellation carries no reason. The limit object knows; the search
finds the object on the stack of the coroutine that entered it, or in an exit stack or generator there:

    task ── coroutine ──awaits──▶ coroutine ──awaits──▶ …        each with the context managers it has entered
      └──── callback of gather(), wait() or a TaskGroup ──▶ the task waiting for this one, if cancelled too

Works for suspended tasks, and for the current task during the propagation of a `CancelledError`, while the outer
coroutines are still suspended.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import types
import weakref
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from typing import Any, Literal

from sidestream.stdlib_compat import done_callbacks, is_in_expired_wait_for

MAX_STEPS = 1_000
"""Maximum number of coroutines and callbacks to visit in one search."""

_SUSPENDED = (types.AsyncGeneratorType, types.CoroutineType, types.GeneratorType)
_STEPS = frozenset(("async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper"))
"""Names of built-in types between a coroutine and the generator whose step it awaits."""


def is_timed_out(task: asyncio.Task[Any] | None) -> bool:
    """Whether a time limit around `task`, or around a task waiting for it, has expired."""
    tasks = [] if task is None else [task]
    seen: set[int] = set()
    while tasks and len(seen) < MAX_STEPS:
        each = tasks.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if each in _timed_out or any(map(_has_expired, _limits_around(each.get_coro(), seen))):
            return True
        for waiter in _waiters(each, seen):
            if is_in_expired_wait_for(waiter):
                return True
            if waiter.cancelling():
                tasks.append(waiter)
    return False


def is_time_out(error: BaseException) -> bool:
    """Whether `error`, propagating in the current task, is a cancellation by a time limit."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    requests, answer = _interrupted.get(task, (0, False)) if task is not None else (0, False)
    return (answer and task is not None and task.cancelling() == requests) or is_timed_out(task)


def interruption() -> Literal["cancelled", "timed_out"] | None:
    """Interruption of the current task, by a time limit or otherwise; None if the task is not being interrupted.

    The exception is not needed: a stream that is freed during a cancellation has none. A time limit in the same
    function that drops the stream is not visible then, and reads as `cancelled`.
    """
    task = None
    with suppress(RuntimeError):  # no loop is running
        task = asyncio.current_task()
    if task is not None and task.cancelling():
        return "timed_out" if is_timed_out(task) else "cancelled"
    return "cancelled" if isinstance(sys.exc_info()[1], KeyboardInterrupt | SystemExit) else None


class Interruptible:
    """Awaits an awaitable, and records at the moment of a cancellation whether a time limit caused it.

    A client may await while handling a cancellation, for example to close its connection. Afterwards the outer
    coroutines have been resumed, and their entered context managers are no longer visible.
    """

    __slots__ = ("_steps",)

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        steps = getattr(awaitable, "__await__", None)
        self._steps: Any = _awaiting(awaitable).__await__() if steps is None else steps()

    def __await__(self) -> Interruptible:
        return self

    def __iter__(self) -> Interruptible:
        return self

    def __next__(self) -> Any:
        return next(self._steps)

    def send(self, value: Any) -> Any:
        return self._steps.send(value) if value is not None else next(self._steps)

    def throw(self, *error: Any) -> Any:
        if isinstance(error[0], asyncio.CancelledError) or error[0] is asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                with suppress(Exception):
                    _interrupted[task] = task.cancelling(), is_timed_out(task)
        throw = getattr(self._steps, "throw", None)
        if throw is None:  # a plain iterator, which `await` accepts
            raise error[0]
        return throw(*error)

    def close(self) -> None:
        if (close := getattr(self._steps, "close", None)) is not None:
            close()


async def _awaiting(awaitable: Any) -> Any:
    """Awaits a generator of `types.coroutine`, which has no `__await__`; `await` itself refuses all other objects."""
    return await awaitable


_interrupted: weakref.WeakKeyDictionary[asyncio.Task[Any], tuple[int, bool]] = weakref.WeakKeyDictionary()
"""State at the last cancellation of a task: number of cancellation requests, and whether a time limit caused it."""


def pass_on(task: asyncio.Task[Any] | None, to: asyncio.Task[Any]) -> None:
    """Record that `to` is cancelled on behalf of `task`, which may no longer exist when the cause is examined."""
    if is_timed_out(task):
        _timed_out.add(to)


_timed_out: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
"""Tasks known to be cancelled by a time limit."""


def _has_expired(limit: Any) -> bool:
    if isinstance(limit, asyncio.Timeout):
        return limit.expired()
    return bool(limit.cancel_called and limit.deadline <= asyncio.get_running_loop().time())


def _limits_around(coroutine: Any, seen: set[int]) -> Iterator[Any]:
    """Time limits that `coroutine` and the coroutines awaited by it have entered and not left."""
    anyio: Any = sys.modules.get("anyio")
    kinds: tuple[type, ...] = (asyncio.Timeout, anyio.CancelScope) if anyio is not None else (asyncio.Timeout,)
    todo = [coroutine]
    while todo and len(seen) < MAX_STEPS:
        awaiting = todo.pop()
        if awaiting is None or id(awaiting) in seen:
            continue
        seen.add(id(awaiting))
        todo.extend(_awaited(awaiting))
        for held in _entered(awaiting):
            if isinstance(held, kinds):
                yield held
            elif isinstance(generator := getattr(held, "gen", None), _SUSPENDED):  # of @contextmanager
                todo.append(generator)


def _entered(awaiting: Any) -> Iterator[Any]:
    """Objects that a suspended coroutine or generator references, and may have entered."""
    for held in gc.get_referents(awaiting):
        manager = held.__self__ if isinstance(held, types.MethodType) else held
        yield manager
        if isinstance(manager, ExitStack | AsyncExitStack):
            for _, leave in getattr(manager, "_exit_callbacks", ()):
                yield getattr(leave, "__self__", None)


def _awaited(awaiting: Any) -> Iterator[Any]:
    """Objects that a suspended coroutine or asynchronous generator awaits."""
    for name in ("cr_await", "ag_await", "gi_yieldfrom"):
        if (awaited := getattr(awaiting, name, None)) is not None:
            yield awaited
            return
    if isinstance(awaiting, Interruptible):
        yield awaiting._steps
        return
    # A generator step references only its generator among suspended objects. A coroutine that propagates an exception
    # counts as running, and has no `cr_await` in Python 3.12 and later.
    for each in gc.get_referents(awaiting):
        if isinstance(each, _SUSPENDED) or type(each).__name__ in _STEPS:
            yield each


def _waiters(task: asyncio.Task[Any], seen: set[int]) -> Iterator[asyncio.Task[Any]]:
    """Tasks waiting for `task`: by `await`, `wait()`, `gather()`, `shield()` or in a `TaskGroup`."""
    todo: list[Any] = list(done_callbacks(task))
    while todo and len(seen) < MAX_STEPS:
        each = todo.pop()
        if id(each) in seen:
            continue
        if isinstance(each, asyncio.Task):
            yield each
            continue
        seen.add(id(each))
        if isinstance(each, asyncio.Future):
            todo.extend(done_callbacks(each))
        elif isinstance(each, partial):
            todo.extend((each.func, *each.args))
        elif isinstance(each, types.MethodType | types.BuiltinMethodType):
            todo.append(each.__self__)
        elif isinstance(each, types.FunctionType):  # a closure over the awaited future
            todo.extend(held for cell in each.__closure__ or () for held in gc.get_referents(cell))
        elif isinstance(each, asyncio.TaskGroup):
            todo.append(getattr(each, "_parent_task", None))
