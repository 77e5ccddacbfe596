"""Implementation of `Sidecar.tap`: classifies the source, and starts the run."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, TypeAlias, TypedDict, TypeVar, Unpack

from sidestream.errors import ConfigurationError
from sidestream.recording.context import Link, current, enclosing, recorded_outside
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request_recorder import monotonic_ns
from sidestream.recording.snapshot import snapshot
from sidestream.recording.span_context import current_span, current_span_context
from sidestream.sources.adapters.protocol import Adapter
from sidestream.sources.adapters.registry import adapter_of

from .iterators import AsyncTap, Tap
from .tapped_run import TappedRun

T = TypeVar("T")
AsyncSource: TypeAlias = (
    AsyncIterable[T]
    | Awaitable[AsyncIterable[T]]
    | AbstractAsyncContextManager[AsyncIterable[T]]
    | Callable[[], AsyncIterable[T] | Awaitable[AsyncIterable[T]]]
)
"""Async stream, or a source of one."""
PlainSource: TypeAlias = Iterable[T] | AbstractContextManager[Iterable[T]] | Callable[[], Iterable[T]]
"""Plain stream, or a source of one."""


class TapOptions(TypedDict, total=False):
    """Keyword arguments of `Sidecar.tap`."""

    agent_name: str | None
    """Name of the run in the log."""
    adapter: str | Adapter | type[Adapter] | None
    """Interpretation of the items: `text`, `openai-chat`, `events`, `json`, an installed adapter, or a function"""
    prompt: Any
    """Prompt of the run."""
    model: str | None
    """Requested model, if any."""
    provider: str | None
    conversation_id: str | None
    """Conversation id of the application."""


def tap(recorder: Recorder, source: Any, **about: Unpack[TapOptions]) -> Any:
    """Implementation of `Sidecar.tap`, which documents arguments and errors."""
    unknown = ", ".join(sorted(about.keys() - TapOptions.__annotations__.keys()))
    if unknown:
        raise ConfigurationError(f"tap(): unknown {unknown}; there are {', '.join(TapOptions.__annotations__)}")
    adapter = adapter_of(about.get("adapter"))
    if _kind(source) == "maker":
        run = _begin(recorder, adapter, about)
        source = _make(source, recorder, run)
        return _tapped(recorder, source, _iterator_of(source), run)
    _check(source)
    iterator = _iterator_of(source)  # before the run starts, so that a source without iteration starts no run
    run = _begin(recorder, adapter, about)
    if run is not None:
        run.start_known = False  # the request was sent before the tap, unless the stream is still to be opened
    return _tapped(recorder, source, iterator, run)


def _kind(source: Any) -> str:
    """Kind of `source`, the first that matches: `stream`, `awaitable`, `manager`, `maker` (a callable) or `nothing`."""
    if isinstance(source, str | bytes | bytearray | type):
        return "nothing"
    if hasattr(source, "__aiter__") or hasattr(source, "__iter__"):
        return "stream"
    if inspect.isawaitable(source):
        return "awaitable"
    if hasattr(source, "__aenter__") or hasattr(source, "__enter__"):
        return "manager"
    return "maker" if callable(source) else "nothing"


def _check(source: Any) -> None:
    if _kind(source) in ("nothing", "maker"):
        advice = "give an iterator, or a source of one: an awaitable, a context manager, a function without arguments"
        if isinstance(source, str | bytes | bytearray):
            advice = "for a complete text, give [text]"
        raise ConfigurationError(f"tap(): {type(source).__qualname__!r} is not a stream; {advice}")


def _make(make: Any, recorder: Recorder, run: TappedRun | None) -> Any:
    """Call `make`; returns a stream, or an awaitable or context manager that opens one."""
    asked = monotonic_ns()
    outside, recorded = current.get(), recorded_outside.get()
    try:
        if run is not None:
            run.asked(asked)
            recorded_outside.set(True)  # the tap records the opening call
            current.set(Link(run.run, None, outside, "stream", around=current_span_context()))
        source = make()
        if run is not None:
            run.opened()
        _check(source)
    except BaseException as error:
        if run is not None:
            safely(recorder, run.not_opened, error)
        raise
    finally:
        current.set(outside)
        recorded_outside.set(recorded)
    return source


def _iterator_of(source: Any) -> Any:
    """Iterator of `source`; None if the stream is still to be opened."""
    if hasattr(source, "__aiter__"):
        return source.__aiter__()
    return source.__iter__() if hasattr(source, "__iter__") else None


def _tapped(recorder: Recorder, source: Any, iterator: Any, run: TappedRun | None) -> AsyncTap[Any] | Tap[Any]:
    if hasattr(source, "__aiter__"):
        return AsyncTap[Any](recorder, run).attach(source, "__aiter__", iterator)
    if hasattr(source, "__iter__"):
        return Tap[Any](recorder, run).attach(source, "__iter__", iterator)
    if inspect.isawaitable(source) or hasattr(source, "__aenter__"):
        return AsyncTap[Any](recorder, run, opening=source)
    return Tap[Any](recorder, run, opening=source)


def _begin(recorder: Recorder, adapter: Adapter, about: TapOptions) -> TappedRun | None:
    """Start a run; returns None if recording is off or fails."""
    run: TappedRun | None = safely(recorder, _begun, recorder, adapter, about) if recorder.active else None
    return run


def _begun(recorder: Recorder, adapter: Adapter, about: TapOptions) -> TappedRun:
    model = about.get("model")
    run = recorder.open_run(str(uuid.uuid4()), about.get("agent_name"), enclosing(recorder))
    run.start(
        prompt=snapshot(about.get("prompt")) if recorder.wants_content else None,
        model=model,
        conversation_id=about.get("conversation_id"),
        mode=None,
        caller=current_span(),
    )
    return TappedRun(recorder, run, adapter, model=model, provider=about.get("provider"))
