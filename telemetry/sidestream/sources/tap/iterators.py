"""Pass-through iterators around a stream that record each item.

Each pull causes exactly one pull from the stream, and the same object or exception is passed on. An iterator supports
the protocols of the stream: iteration, `async with` or `with`, closing, and the stream's own attributes.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import FrameType, TracebackType
from typing import Any, Literal, Self, TypeVar

from sidestream.errors import ConfigurationError
from sidestream.events import RunOutcome
from sidestream.recording.context import Link, current, recorded_outside
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request_recorder import monotonic_ns
from sidestream.recording.span_context import current_span_context
from sidestream.sources.time_limits import Interruptible, interruption, is_time_out

from .generators import is_of_sdk, not_begun
from .tapped_run import TappedRun

T = TypeVar("T")

INNER = "_raw_stream"
"""Attribute of the `.stream()` helpers of OpenAI's and Anthropic's clients: the raw stream from which all their
methods read (`get_final_message()`, `text_stream`, …). The tap is placed there, so that no item is missed."""


_INTERRUPTED = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
"""Exceptions that interrupt a consumer, as opposed to leaving voluntarily."""


class _Tap:
    """Base class of both iterators: opens and closes the stream, and ends the run on every path."""

    _run: TappedRun | None = None
    _inner: _Tap | None = None

    def __init__(self, recorder: Recorder, run: TappedRun | None, opening: Any = None) -> None:
        self._recorder = recorder
        self._opening = opening
        """Awaitable or context manager that opens the stream; None once opened."""
        self._stream: Any = None
        self._iterator: Any = None
        self._pull: Any = None
        self._exit: Any = None
        self._link: Link | None = None
        self._cancelled_at = 0
        self._timed_out = False
        """Whether a time limit cancelled the last pull, or the consumer."""
        self._run = run

    def attach(self, stream: Any, iterate: Literal["__aiter__", "__iter__"], iterator: Any = None) -> Self:
        """Read from `stream`, through `iterator` if given. Raises the stream's exception if iteration cannot start."""
        self._stream, self._opening = stream, None
        run, inner = self._run, getattr(stream, INNER, None)
        if run is not None and hasattr(inner, iterate) and not isinstance(inner, _Tap):
            self._inner = type(self)(self._recorder, run).attach(inner, iterate)
            setattr(stream, INNER, self._inner)
            self._run = run = None
        self._iterator = getattr(stream, iterate)() if iterator is None else iterator
        self._pull = getattr(self._iterator, iterate.replace("iter", "next"))
        # Work and logs in the body of a generator belong to this run. Model calls in an SDK's body are recorded by the
        # adapter.
        if run is not None and (inspect.isasyncgen(stream) or inspect.isgenerator(stream)):
            about: dict[str, Any] = {
                "around": current_span_context(),
                "recorded_modules": ("",) if is_of_sdk(stream) else (),
            }
            self._link = Link(run.run, None, current.get(), "stream", **about)
            if not_begun(stream):
                run.begins_at_first_pull()
        return self

    def _raised(self, error: BaseException, t_pull: int) -> None:
        """End the run with `error` of a pull at `t_pull` (StopIteration included). Keeps no reference to `error`."""
        run = self._run
        if run is None:
            return
        frame = getattr(self._iterator, "ag_frame", getattr(self._iterator, "gi_frame", False))
        if isinstance(frame, FrameType):
            return  # a generator that is still running: two consumers pulled at once
        run.empty_pull(t_pull)
        if isinstance(error, asyncio.CancelledError) and frame is not None:
            self._cancelled_at = monotonic_ns()  # another pull may follow, for example after a timeout
            self._timed_out = is_time_out(error)
            return
        self._run = None
        run.raised(error)

    def _not_opened(self, error: BaseException) -> None:
        run, self._run = self._run, None
        if run is not None:
            safely(self._recorder, run.not_opened, error)

    def _interrupted_by(self, error: BaseException | None) -> None:
        """Record whether `error` interrupts the consumer, before the stream is closed and its run with it."""
        if not isinstance(error, _INTERRUPTED):
            return
        for tap in (self, self._inner):
            if tap is not None:
                tap._cancelled_at, tap._timed_out = monotonic_ns(), is_time_out(error)

    def _left(self) -> None:
        """End the run because the consumer left, voluntarily or interrupted."""
        if self._inner is not None:
            self._inner._left()
        run, self._run = self._run, None
        if run is None:
            return
        if self._cancelled_at >= run.last_at:
            how: RunOutcome | None = "timed_out" if self._timed_out else "cancelled"
        else:
            how = safely(self._recorder, interruption)
        safely(self._recorder, run.end, how or "abandoned")

    def _closer(self, *names: str) -> Any:
        sources = [(self._stream, name) for name in names] + [(self._iterator, names[0])]
        return next((closer for source, name in sources if (closer := getattr(source, name, None)) is not None), None)

    def _closing(self, close: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the stream's own `close`, so that closing ends the run."""

        def closing(*args: Any, **kwargs: Any) -> Any:
            with _RunContext(self._link):
                made = close(*args, **kwargs)
            if inspect.isawaitable(made):
                return self._closed(made)
            self._left()
            return made

        return closing

    async def _closed(self, closing: Awaitable[Any]) -> Any:
        try:
            with _RunContext(self._link):
                return await closing
        finally:
            self._left()

    def __del__(self) -> None:
        self._left()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self._stream is None:
            opened = "" if name.startswith("_") or self._opening is None else "; its stream has not been opened yet"
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{opened}")
        value = getattr(self._stream, name)
        return self._closing(value) if name == "close" and callable(value) else value


def _expect(stream: Any, iterate: str) -> None:
    if not hasattr(stream, iterate):
        kind = type(stream).__qualname__
        raise ConfigurationError(f"tap(): the source returned a {kind!r} instead of a stream; was streaming requested?")


class _RunContext:
    """Context manager that sets the current run while the stream's own code executes."""

    __slots__ = ("_link", "_outside")

    def __init__(self, link: Link | None) -> None:
        self._link = link

    def __enter__(self) -> Self:
        if self._link is not None:
            self._outside = current.get()
            current.set(self._link)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._link is not None:
            current.set(self._outside)


class _Opening(_RunContext):
    """Context manager around the opening of a stream: records the time, and a failure."""

    __slots__ = ("_recorded_outside", "_tap", "t")

    def __init__(self, tap: _Tap) -> None:
        super().__init__(tap._link)
        self._tap = tap
        self._recorded_outside = recorded_outside.get()
        recorded_outside.set(self._recorded_outside or tap._run is not None)  # the tap records the opening call
        self.t = monotonic_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        recorded_outside.set(self._recorded_outside)
        if error is not None:
            self._tap._not_opened(error)


class AsyncTap(_Tap, AsyncIterator[T]):
    """Async iterator over a tapped stream. Other attributes are forwarded to the stream."""

    async def __anext__(self) -> T:
        if self._pull is None:
            await self._open("await")
        run, link = self._run, self._link
        if run is None:
            return await self._pull()  # type: ignore[no-any-return]
        if link is not None:
            outside = current.get()
            current.set(link)
        t_pull = monotonic_ns()
        try:
            item: T = await Interruptible(self._pull())
        except BaseException as error:
            safely(self._recorder, self._raised, error, t_pull)
            raise
        finally:
            if link is not None:
                current.set(outside)
        run.item(item, t_pull)
        return item

    async def _open(self, how: Literal["await", "enter"]) -> None:
        opening, run = self._opening, self._run
        if how == "await" and not inspect.isawaitable(opening):
            raise TypeError(
                f"'async for' needs a stream: enter this {type(opening).__qualname__} first, by 'async with'"
            )
        with _Opening(self) as asked:
            if run is not None:
                run.asked(asked.t)
            stream = await Interruptible(opening if how == "await" else opening.__aenter__())
            _expect(stream, "__aiter__")
        if run is not None:
            run.opened()
        if how == "enter":
            self._exit = opening.__aexit__
        self.attach(stream, "__aiter__")

    async def _opened(self) -> Self:
        if self._pull is None:
            await self._open("await")
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._opened().__await__()

    async def __aenter__(self) -> Self:
        if self._pull is None:
            await self._open("await" if inspect.isawaitable(self._opening) else "enter")
        if self._exit is None and isinstance(self._stream, AbstractAsyncContextManager):
            stream = self._stream
            self._exit = stream.__aexit__
            entered = await stream.__aenter__()
            if entered is not stream:
                self.attach(entered, "__aiter__")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        leave, self._exit = self._exit, None
        safely(self._recorder, self._interrupted_by, error)
        try:
            with _RunContext(self._link):
                if leave is not None:
                    return await leave(kind, error, traceback)  # type: ignore[no-any-return]
            await self.aclose()
            return None
        finally:
            self._left()

    async def aclose(self) -> None:
        """Close the stream if supported, and end the run."""
        close = self._closer("aclose", "close")
        if close is not None:
            made = self._closing(close)()
            if inspect.isawaitable(made):
                await made
        elif inspect.iscoroutine(self._opening):
            self._opening.close()  # prevents the warning that the coroutine was never awaited
        self._left()


class Tap(_Tap, Iterator[T]):
    """Iterator over a tapped stream. Other attributes are forwarded to the stream."""

    def __next__(self) -> T:
        if self._pull is None:
            kind = type(self._opening).__qualname__
            raise TypeError(f"'for' needs a stream: enter this {kind} first, by 'with'")
        run, link = self._run, self._link
        if run is None:
            return self._pull()  # type: ignore[no-any-return]
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
        run.item(item, t_pull)
        return item

    def __enter__(self) -> Self:
        run = self._run
        if self._pull is None:
            opening = self._opening
            with _Opening(self) as asked:
                if run is not None:
                    run.asked(asked.t)
                stream = opening.__enter__()
                _expect(stream, "__iter__")
            if run is not None:
                run.opened()
            self._exit = opening.__exit__
            self.attach(stream, "__iter__")
        elif self._exit is None and isinstance(self._stream, AbstractContextManager):
            stream = self._stream
            self._exit = stream.__exit__
            entered = stream.__enter__()
            if entered is not stream:
                self.attach(entered, "__iter__")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        leave, self._exit = self._exit, None
        safely(self._recorder, self._interrupted_by, error)
        try:
            with _RunContext(self._link):
                if leave is not None:
                    return leave(kind, error, traceback)  # type: ignore[no-any-return]
            self.close()
            return None
        finally:
            self._left()

    def close(self) -> None:
        """Close the stream if supported, and end the run."""
        close = self._closer("close")
        if close is not None:
            self._closing(close)()
        self._left()
