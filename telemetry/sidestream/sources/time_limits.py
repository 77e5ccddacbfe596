"""Whether a limit of time has cancelled a task: `asyncio.timeout`, `asyncio.wait_for`, anyio's `fail_after` and others.

A limit cancels the task that entered it, and nothing of the cancellation says so. The limit itself knows; it stands on
the stack of the coroutine, or in the exit stack or generator, that entered it:

    task ── coroutine ──awaits──▶ coroutine ──awaits──▶ …        each with what it has entered
      └──── callback of gather(), wait() or a TaskGroup ──▶ the task that waits for this one, if it is cancelled too

It may be asked of a suspended task, and of the current one while a `CancelledError` is on its way out: the coroutines
further out have not been resumed by then.
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
from typing import Any

from sidestream.stdlib_compat import done_callbacks, waits_in_vain

MAX_STEPS = 1_000
"""Coroutines, and things that tasks wait by, that are looked at before the search is given up."""

_SUSPENDED = (types.AsyncGeneratorType, types.CoroutineType, types.GeneratorType)
_STEPS = frozenset(("async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper"))
"""Types, nameless in Python, of what stands between a coroutine and the generator that it awaits a step of."""


def is_timed_out(task: asyncio.Task[Any] | None) -> bool:
    """Whether a limit around what `task` does, or around what waits for it, has expired."""
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
            if waits_in_vain(waiter):
                return True
            if waiter.cancelling():
                tasks.append(waiter)
    return False


def is_time_out(error: BaseException) -> bool:
    """Whether `error`, which is being raised in the current task, is a cancellation by a limit of time."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    requests, answer = _interrupted.get(task, (0, False)) if task is not None else (0, False)
    return (answer and task is not None and task.cancelling() == requests) or is_timed_out(task)


class Interruptible:
    """Awaits what it is given, and notes at once whether it is a limit of time that interrupts it.

    A client that closes its connection awaits something on the way out of a cancellation. By the time that the
    exception has passed it, the coroutines further out have been resumed, and nobody can tell what they have entered.
    """

    __slots__ = ("_steps",)

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._steps: Any = awaitable.__await__()

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
        if throw is None:  # a plain iterator, as `await` allows it
            raise error[0]
        return throw(*error)

    def close(self) -> None:
        if (close := getattr(self._steps, "close", None)) is not None:
            close()


_interrupted: weakref.WeakKeyDictionary[asyncio.Task[Any], tuple[int, bool]] = weakref.WeakKeyDictionary()
"""By task: how many cancellations had been asked for when it was interrupted last, and whether by a limit of time."""


def pass_on(task: asyncio.Task[Any] | None, to: asyncio.Task[Any]) -> None:
    """Note that `to` is being cancelled on behalf of `task`, which may be gone by the time that somebody asks."""
    if is_timed_out(task):
        _timed_out.add(to)


_timed_out: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
"""Tasks that a limit of time is known to have cancelled."""


def _has_expired(limit: Any) -> bool:
    if isinstance(limit, asyncio.Timeout):
        return limit.expired()
    return bool(limit.cancel_called and limit.deadline <= asyncio.get_running_loop().time())


def _limits_around(coroutine: Any, seen: set[int]) -> Iterator[Any]:
    """Limits that `coroutine`, and what it awaits, have entered and not left."""
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
    """What may have been entered by a suspended coroutine or generator."""
    for held in gc.get_referents(awaiting):
        manager = held.__self__ if isinstance(held, types.MethodType) else held
        yield manager
        if isinstance(manager, ExitStack | AsyncExitStack):
            for _, leave in getattr(manager, "_exit_callbacks", ()):
                yield getattr(leave, "__self__", None)


def _awaited(awaiting: Any) -> Iterator[Any]:
    """What a suspended coroutine or asynchronous generator waits for."""
    for name in ("cr_await", "ag_await", "gi_yieldfrom"):
        if (awaited := getattr(awaiting, name, None)) is not None:
            yield awaited
            return
    if isinstance(awaiting, Interruptible):
        yield awaiting._steps
        return
    # A step of a generator refers to it and to nothing else that waits. A coroutine that passes an exception on counts
    # as running, and has no `cr_await` in Python 3.12 and later.
    for each in gc.get_referents(awaiting):
        if isinstance(each, _SUSPENDED) or type(each).__name__ in _STEPS:
            yield each


def _waiters(task: asyncio.Task[Any], seen: set[int]) -> Iterator[asyncio.Task[Any]]:
    """Tasks that wait for `task`: by `await`, `wait()`, `gather()`, `shield()` or in a `TaskGroup`."""
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
        elif isinstance(each, types.FunctionType):  # a closure over the future that is waited for
            todo.extend(held for cell in each.__closure__ or () for held in gc.get_referents(cell))
        elif isinstance(each, asyncio.TaskGroup):
            todo.append(getattr(each, "_parent_task", None))
