"""Iterators that stand inside an SDK's own stream, in the place of the iterator that it reads from.

The program keeps the SDK's stream object, of its own class and with all of its methods; every item that it reads passes
here. An iterator holds nothing of the stream itself, so that a stream that is let go of is freed as without it.
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


class HoldsCall:
    """Base of what holds the call of a stream until that is read, or let go of."""

    def __init__(self, call: ModelCall) -> None:
        self._call: ModelCall | None = call

    def left(self) -> None:
        """Nobody will ask for more."""
        call, self._call = self._call, None
        if call is not None:
            call.left()

    def __del__(self) -> None:
        self.left()


class _Seen(HoldsCall):
    """Base of both iterators: ends its call on every path."""

    def __init__(self, recorder: Recorder, call: ModelCall, iterator: Any) -> None:
        super().__init__(call)
        self._recorder = recorder
        self._iterator = iterator

    def _raised(self, error: BaseException, t_pull: int) -> None:
        call = self._call
        frame = getattr(self._iterator, "ag_frame", getattr(self._iterator, "gi_frame", None))
        if call is None or isinstance(frame, FrameType):
            return  # a generator that runs on: it was asked by two at once
        self._call = None
        call.in_vain(t_pull)
        call.raised(error)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._iterator, name)


class SeenIterator(_Seen, Iterator[Any]):
    """Iterator over the items of a stream, each of which is reported to its call."""

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


class SeenAsyncIterator(_Seen, AsyncIterator[Any]):
    """Async iterator over the items of a stream, each of which is reported to its call."""

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
    """One loop over a stream. A loop that is left, as by `break`, lets go of it: that is when the call is over."""

    def __init__(self, seen: SeenIterator) -> None:
        self._seen = seen

    def __next__(self) -> Any:
        return self._seen.__next__()

    def __del__(self) -> None:
        self._seen.left()


class _AsyncLoop(AsyncIterator[Any]):
    """The same for `async for`."""

    def __init__(self, seen: SeenAsyncIterator) -> None:
        self._seen = seen

    def __anext__(self) -> Any:
        return self._seen.__anext__()

    def __del__(self) -> None:
        self._seen.left()


def see(recorder: Recorder, call: ModelCall, stream: Any, attribute: str) -> bool:
    """Have what is read from `stream` pass by: its own iterator stands in `attribute`. False where that is not so."""
    iterator = getattr(stream, attribute, None)
    if hasattr(iterator, "__anext__"):
        setattr(stream, attribute, SeenAsyncIterator(recorder, call, iterator))
    elif hasattr(iterator, "__next__"):
        setattr(stream, attribute, SeenIterator(recorder, call, iterator))
    else:
        return False
    call.opened()
    return True


def closing(path: str) -> Callable[[Any], Callable[..., Any]]:
    """Makes a wrapper for the `close` of a stream's class, by which the call of a stream that was seen is over.

    `path`: the attribute that holds the call, as the stream's iterator does, or the attributes that lead to it.
    """

    def make(original: Any) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(original):

            async def aclose(self: Any, *args: Any, **kwargs: Any) -> Any:
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


def _left(stream: Any, path: str) -> None:
    found = stream
    for name in path.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    if isinstance(found, HoldsCall):
        found.left()
