"""Pass-through iterators, placed inside an SDK's stream instead of its own iterator.

The program keeps the SDK's stream object with its class and methods; every item read passes through the iterator. An
iterator holds no reference to the stream, so that an abandoned stream is freed as usual.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType
from typing import Any

from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request_recorder import monotonic_ns
from sidestream.sources.time_limits import Interruptible

from .calls import ModelCall


class CallHolder:
    """Base class of holders of a stream's call, until the stream is read or abandoned."""

    def __init__(self, call: ModelCall) -> None:
        self._call: ModelCall | None = call

    def leaving(self) -> None:
        """The stream is about to be closed."""
        if self._call is not None:
            self._call.leaving()

    def left(self) -> None:
        """Record that the consumer has left the stream."""
        call, self._call = self._call, None
        if call is not None:
            call.left()

    def __del__(self) -> None:
        self.left()


class _ObservedBase(CallHolder):
    """Base class of both iterators: ends the call on every path."""

    def __init__(self, recorder: Recorder, call: ModelCall, iterator: Any) -> None:
        super().__init__(call)
        self._recorder = recorder
        self._iterator = iterator

    def _raised(self, error: BaseException, t_pull: int) -> None:
        call = self._call
        frame = getattr(self._iterator, "ag_frame", getattr(self._iterator, "gi_frame", None))
        if call is None or isinstance(frame, FrameType):
            return  # a generator that is still running: two consumers pulled at once
        self._call = None
        call.empty_pull(t_pull)
        call.raised(error)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._iterator, name)


class ObservedIterator(_ObservedBase, Iterator[Any]):
    """Iterator over the items of a stream that records each item."""

    def __next__(self) -> Any:
        call = self._call
        if call is None:
            return self._iterator.__next__()
        t_pull = monotonic_ns()
        try:
            item = self._iterator.__next__()
        except BaseException as error:
            safely(self._recorder, self._raised, error, t_pull)
            raise
        call.item(item, t_pull)
        return item

    def __iter__(self) -> Iterator[Any]:
        return _Loop(self)

    def close(self) -> None:
        """Close the iterator."""
        self._iterator.close()
        self.left()


class ObservedAsyncIterator(_ObservedBase, AsyncIterator[Any]):
    """Async iterator over the items of a stream that records each item."""

    async def __anext__(self) -> Any:
        call = self._call
        if call is None:
            return await self._iterator.__anext__()
        t_pull = monotonic_ns()
        try:
            item = await Interruptible(self._iterator.__anext__())
        except BaseException as error:
            safely(self._recorder, self._raised, error, t_pull)
            raise
        call.item(item, t_pull)
        return item

    def __aiter__(self) -> AsyncIterator[Any]:
        return _AsyncLoop(self)

    async def aclose(self) -> None:
        """Close the iterator."""
        await self._iterator.aclose()
        self.left()


class _Loop(Iterator[Any]):
    """One `for` loop over a stream. The call ends once the loop is garbage-collected, for example after a `break`."""

    def __init__(self, observed: ObservedIterator) -> None:
        self._observed = observed

    def __next__(self) -> Any:
        return self._observed.__next__()

    def __del__(self) -> None:
        self._observed.left()


class _AsyncLoop(AsyncIterator[Any]):
    """One `async for` loop over a stream. See `_Loop`."""

    def __init__(self, observed: ObservedAsyncIterator) -> None:
        self._observed = observed

    def __anext__(self) -> Any:
        return self._observed.__anext__()

    def __del__(self) -> None:
        self._observed.left()


def observe_stream(recorder: Recorder, call: ModelCall, stream: Any, attribute: str) -> bool:
    """Replace the iterator in `attribute` of `stream` by an observing one. Returns False if there is no iterator."""
    iterator = getattr(stream, attribute, None)
    if hasattr(iterator, "__anext__"):
        setattr(stream, attribute, ObservedAsyncIterator(recorder, call, iterator))
    elif hasattr(iterator, "__next__"):
        setattr(stream, attribute, ObservedIterator(recorder, call, iterator))
    else:
        return False
    call.opened()
    return True


def closing(path: str) -> Callable[[Any], Callable[..., Any]]:
    """Make a wrapper for `close` of a stream's class that ends the call of an observed stream.

    `path`: dotted path of attributes from the stream to the holder of the call.
    """

    def make(original: Any) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(original):

            async def aclose(self: Any, *args: Any, **kwargs: Any) -> Any:
                if (held := _held(self, path)) is not None:
                    held.leaving()
                try:
                    return await original(self, *args, **kwargs)
                finally:
                    _left(self, path)

            return aclose

        def close(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(self, *args, **kwargs)
            finally:
                _left(self, path)

        return close

    return make


def _held(stream: Any, path: str) -> CallHolder | None:
    found = stream
    for name in path.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found if isinstance(found, CallHolder) else None


def _left(stream: Any, path: str) -> None:
    if (held := _held(stream, path)) is not None:
        held.left()
