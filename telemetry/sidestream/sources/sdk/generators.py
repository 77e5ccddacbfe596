"""Pass-through generators around an SDK's generators, each recording a run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from types import TracebackType
from typing import Any, Protocol

from sidestream.recording.context import Link, enclosing, recorded_outside
from sidestream.recording.recorder import Recorder, safely
from sidestream.sources.time_limits import Interruptible


class StreamedRun(Protocol):
    """Run of a stream; as a context manager, it encloses each step of the generator.

    Context variables are set only during a step, because a plain generator shares its caller's context between steps.
    """

    def __enter__(self) -> None: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def record_item(self, item: Any) -> None:
        """Record `item`."""

    def left(self) -> None:
        """Record that the consumer has left the stream."""


def pass_through(stream: Any, begin: Callable[[], StreamedRun]) -> Generator[Any, Any, Any]:
    """Yield the items of the generator `stream`; the run starts with the first step."""
    run = begin()
    try:
        with run:
            item = next(stream)
        while True:
            run.record_item(item)
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


async def apass_through(stream: Any, begin: Callable[[], StreamedRun]) -> AsyncGenerator[Any, Any]:
    """Yield the items of the asynchronous generator `stream`; the run starts with the first step."""
    run = begin()
    try:
        # Hide `stream` from the event loop, which at shutdown closes all known generators at once; only this wrapper is
        # known.
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        pull = stream.__anext__()
        sys.set_asyncgen_hooks(*hooks)
        with run:
            item = await Interruptible(pull)
        while True:
            run.record_item(item)
            try:
                sent = yield item
            except GeneratorExit:
                with run:
                    await stream.aclose()
                run.left()
                raise
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError):  # by the shutdown of the event loop
                    run.left()
                with run:
                    item = await Interruptible(stream.athrow(error))
            else:
                with run:
                    item = await Interruptible(stream.asend(sent))
    except StopAsyncIteration:
        return


def start_run(recorder: Recorder, make: Callable[[Link | None], StreamedRun]) -> StreamedRun:
    """Start a run with `make`, or a no-op run if outer code already records the stream or `make` fails."""
    outer = enclosing(recorder)
    if recorded_outside.get() or (outer is not None and "" in outer.recorded_modules):
        return _NoRun()
    run: StreamedRun | None = safely(recorder, make, outer)
    return _NoRun() if run is None else run


class _NoRun:
    """No-op run: already recorded by outer code, or failed to start."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def record_item(self, item: Any) -> None:
        pass

    def left(self) -> None:
        pass
