"""Any stream as a run: an iterator around it that passes every item on, while an adapter says what the items mean.

The iterator asks the stream once each time it is asked, and hands on the very object, or exception, that came.
"""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Iterator
from types import FrameType
from typing import Any, TypedDict, TypeVar, Unpack

from sidestream.errors import ConfigurationError
from sidestream.recording.content import snapshot
from sidestream.recording.context import Link, current, enclosing
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request import monotonic_ns
from sidestream.recording.span_context import current_span
from sidestream.sources.adapters.protocol import Adapter
from sidestream.sources.adapters.registry import adapter_of

from .recorder import StreamRecorder

T = TypeVar("T")


class _Tap:
    """What both kinds have in common: where the items come from, and the end of the run on every path."""

    _tell: StreamRecorder | None = None

    def __init__(self, stream: Any, iterator: Any, pull: Any, recorder: Recorder, tell: StreamRecorder | None) -> None:
        self._stream = stream
        self._iterator = iterator
        self._pull = pull
        self._recorder = recorder
        # The body of a generator is the application's own code: what it starts and logs belongs to this run.
        generator = inspect.isasyncgen(stream) or inspect.isgenerator(stream)
        self._link = None
        if tell is not None and generator:
            self._link = Link(tell.run, None, current.get(), "stream", around=current_span())
        self._cancelled_at = 0
        self._tell = tell

    def _raised(self, error: BaseException, t_pull: int) -> None:
        """The stream, asked at `t_pull`, raised, be it for its end. Keeps nothing of `error`."""
        tell = self._tell
        if tell is None:
            return
        frame = getattr(self._iterator, "ag_frame", getattr(self._iterator, "gi_frame", False))
        if isinstance(frame, FrameType):
            return  # a generator that runs on: it was asked by two at once
        tell.in_vain(t_pull)
        if isinstance(error, asyncio.CancelledError) and frame is not None:
            self._cancelled_at = monotonic_ns()  # this pull is over; another may follow, as after a time-out
            return
        self._tell = None
        if isinstance(error, StopAsyncIteration | StopIteration):
            tell.end("completed")
        elif isinstance(error, Exception):
            tell.failed(error)
        else:
            tell.end("abandoned" if isinstance(error, GeneratorExit) else "cancelled")

    def _left(self) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            safely(self._recorder, tell.end, "cancelled" if self._cancelled_at >= tell.last_at else "abandoned")

    def _closer(self, name: str) -> Any:
        return getattr(self._stream, name, None) or getattr(self._iterator, name, None)

    def __del__(self) -> None:
        self._left()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._stream, name)


class AsyncTap(_Tap, AsyncIterator[T]):
    """An async stream, as it is. Other attributes than the iterator's own are the stream's."""

    async def __anext__(self) -> T:
        tell = self._tell
        if tell is None:
            return await self._pull()  # type: ignore[no-any-return]
        link = self._link
        if link is not None:
            outside = current.get()
            current.set(link)
        t_pull = monotonic_ns()
        try:
            item: T = await self._pull()
        except BaseException as error:
            safely(self._recorder, self._raised, error, t_pull)
            raise
        finally:
            if link is not None:
                current.set(outside)
        tell.item(item, t_pull)
        return item

    async def aclose(self) -> None:
        """Close the stream, where it can be closed. Its run is over."""
        outside = current.get()
        try:
            close = self._closer("aclose")
            if close is not None:
                current.set(self._link or outside)
                await close()
        finally:
            current.set(outside)
            self._left()


class Tap(_Tap, Iterator[T]):
    """A plain stream, as it is. Other attributes than the iterator's own are the stream's."""

    def __next__(self) -> T:
        tell = self._tell
        if tell is None:
            return self._pull()  # type: ignore[no-any-return]
        link = self._link
        if link is not None:
            outside = current.get()
            current.set(link)
        t_pull = monotonic_ns()
        try:
            item: T = self._pull()
        except BaseException as error:
            safely(self._recorder, self._raised, error, t_pull)
            raise
        finally:
            if link is not None:
                current.set(outside)
        tell.item(item, t_pull)
        return item

    def close(self) -> None:
        """Close the stream, where it can be closed. Its run is over."""
        outside = current.get()
        try:
            close = self._closer("close")
            if close is not None:
                current.set(self._link or outside)
                close()
        finally:
            current.set(outside)
            self._left()


class TapOptions(TypedDict, total=False):
    """What may be said of a tapped stream."""

    agent_name: str | None
    """How the log calls the run."""
    adapter: str | Adapter | type[Adapter] | None
    """What the items mean: `text`, `openai-chat`, `events`, `json`, another that is installed, or a function
    `(item, record)` of your own. None: chosen by the first item."""
    prompt: Any
    """What was asked."""
    model: str | None
    """The model that was asked, if one was."""
    provider: str | None
    conversation_id: str | None
    """The application's own."""


def tap(recorder: Recorder, stream: Any, **about: Unpack[TapOptions]) -> Any:
    """What `Sidecar.tap` does."""
    unknown = ", ".join(sorted(about.keys() - TapOptions.__annotations__.keys()))
    if unknown:
        raise ConfigurationError(f"tap(): unknown {unknown}; there are {', '.join(TapOptions.__annotations__)}")
    adapter = adapter_of(about.get("adapter"))
    kind: type[_Tap]
    if hasattr(stream, "__aiter__"):
        kind, iterator = AsyncTap, stream.__aiter__()
        pull = iterator.__anext__
    elif hasattr(stream, "__iter__"):
        kind, iterator = Tap, stream.__iter__()
        pull = iterator.__next__
    else:
        advice = "give an async iterator or an iterator"
        if inspect.isawaitable(stream):
            advice = "await it first"
        elif hasattr(stream, "__aenter__") or hasattr(stream, "__enter__"):
            advice = "it is a context manager: enter it first, and tap what it gives"
        raise ConfigurationError(f"tap(): {type(stream).__qualname__!r} is not a stream; {advice}")
    tell = safely(recorder, _begin, recorder, adapter, about) if recorder.active else None
    return kind(stream, iterator, pull, recorder, tell)


def _begin(recorder: Recorder, adapter: Adapter, about: TapOptions) -> StreamRecorder:
    model = about.get("model")
    run = recorder.open_run(str(uuid.uuid4()), about.get("agent_name"), enclosing(recorder))
    run.start(
        prompt=snapshot(about.get("prompt")) if recorder.wants_content else None,
        model=model,
        conversation_id=about.get("conversation_id"),
        mode=None,
        caller=current_span(),
    )
    return StreamRecorder(recorder, run, adapter, model=model, provider=about.get("provider"))
