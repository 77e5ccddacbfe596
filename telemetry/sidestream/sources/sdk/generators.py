"""Generators that stand for an SDK's own: what it gives is handed on as it is, and a run begins and ends with it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from types import TracebackType
from typing import Any, Protocol

from sidestream.recording.context import Link, enclosing, told_outside
from sidestream.recording.recorder import Recorder, safely


class StreamedRun(Protocol):
    """Run of a stream. As a context manager, it stands around each step that its consumer asks for.

    Only then are context variables set: between the steps, a plain generator shares its caller's context.
    """

    def __enter__(self) -> None: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def came(self, item: Any) -> None:
        """`item` has come."""

    def left(self) -> None:
        """Nobody will ask for more."""


def passed_on(stream: Any, begin: Callable[[], StreamedRun]) -> Generator[Any, Any, Any]:
    """Gives what the generator `stream` gives; the run begins with its first step."""
    run = begin()
    try:
        with run:
            item = next(stream)
        while True:
            run.came(item)
            try:
                sent = yield item
            except GeneratorExit:
                with run:
                    stream.close()
                run.left()
                raise
            except BaseException as error:
                with run:
                    item = stream.throw(error)
            else:
                with run:
                    item = stream.send(sent)
    except StopIteration as over:
        return over.value


async def apassed_on(stream: Any, begin: Callable[[], StreamedRun]) -> AsyncGenerator[Any, Any]:
    """The same for an asynchronous generator."""
    run = begin()
    try:
        # The event loop closes at its end each generator that it knows of, all at once: it knows this one alone.
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        pull = stream.__anext__()
        sys.set_asyncgen_hooks(*hooks)
        with run:
            item = await pull
        while True:
            run.came(item)
            try:
                sent = yield item
            except GeneratorExit:
                with run:
                    await stream.aclose()
                run.left()
                raise
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError):  # what closes it, at the end of the loop, is cancelled
                    run.left()
                with run:
                    item = await stream.athrow(error)
            else:
                with run:
                    item = await stream.asend(sent)
    except StopAsyncIteration:
        return


def begun(recorder: Recorder, make: Callable[[Link | None], StreamedRun]) -> StreamedRun:
    """The run that `make` makes within the link it is given, unless somebody further out tells the stream."""
    outer = enclosing(recorder)
    if told_outside.get() or (outer is not None and "" in outer.tells):
        return _NoRun()
    run: StreamedRun | None = safely(recorder, make, outer)
    return _NoRun() if run is None else run


class _NoRun:
    """Stands for a run that somebody further out tells, or that could not be begun."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def came(self, item: Any) -> None:
        pass

    def left(self) -> None:
        pass
