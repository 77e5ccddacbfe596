"""LangGraph: each graph execution is a run, a nested graph is a sub-run, and tools are tool calls.

`Pregel.stream` and `astream`, used by every way of running a graph, start and end the run. In between, LangChain's
callbacks report the events (`langchain.py`): LangChain takes the handler from a context variable set during the steps
of the graph. Requests are recorded by the SDK of the model, or else from the callbacks.
"""

from __future__ import annotations

import importlib
import inspect
import uuid
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from types import ModuleType, TracebackType
from typing import Any

from sidestream.events import Json, RunOutcome
from sidestream.recording.context import Link, current
from sidestream.recording.failure import Failure
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.snapshot import snapshot
from sidestream.recording.span_context import current_span, current_span_context
from sidestream.sources.adapters.fields import field
from sidestream.sources.time_limits import is_time_out

from .calls import Observation, text_of
from .compat import register_configure_hook
from .generators import apass_through, pass_through, start_run
from .langchain import GraphCallbacks, handler_class
from .patching import Patches

_handler: ContextVar[Any] = ContextVar("sidestream_langgraph", default=None)
"""Callback handler of the graph to which the current code belongs; LangChain reads it for each callback manager."""


def patch(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe the SDK after the import of the module that defines `Pregel` (before 0.6: the package itself)."""
    pregel = getattr(module, "Pregel", None)
    if pregel is None or pregel.__module__ != module.__name__:
        return
    callbacks = importlib.import_module("langchain_core.callbacks")  # already imported by LangGraph
    handler = handler_class(callbacks.BaseCallbackHandler, _handler)
    patches.at_undo(register_configure_hook(_handler))
    for name in ("stream", "astream"):
        patches.wrap(pregel, name, lambda original: _streaming(original, handler, observation))


def _streaming(original: Any, handler: Any, observation: Observation) -> Callable[..., Any]:
    is_async = inspect.isasyncgenfunction(original)

    def stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(self, *args, **kwargs)
        if not observation.active:
            return made
        given = args[0] if args else kwargs.get("input")
        config = args[1] if len(args) > 1 else kwargs.get("config")
        recorder = observation.recorder
        begin = partial(start_run, recorder, partial(GraphRun, recorder, self, given, config, handler))
        return apass_through(made, begin) if is_async else pass_through(made, begin)

    return stream


class GraphRun:
    """Run of a graph, driven by the steps of its generator."""

    def __init__(
        self, recorder: Recorder, graph: Any, given: Any, config: Any, handler: Any, outer: Link | None
    ) -> None:
        self._recorder = recorder
        name = field(config, "run_name") or field(graph, "name")
        self.run = run = recorder.open_run(str(uuid.uuid4()), name if isinstance(name, str) else None, outer)
        thread = field(field(config, "configurable"), "thread_id")
        run.start(
            prompt=snapshot(_asked(given)) if recorder.wants_content else None,
            conversation_id=None if thread is None else str(thread),
            mode=None,
            caller=current_span(),
        )
        self._link = Link(run, None, current.get(), requests=lambda: run, around=current_span_context())
        self._callbacks = GraphCallbacks(recorder, run, self._link, _answered)
        self._handler = handler(self._callbacks)

    def __enter__(self) -> None:
        self._outside = current.get(), _handler.get()
        current.set(self._link)
        _handler.set(self._handler)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        outside, handler = self._outside
        current.set(outside)
        _handler.set(handler)
        if error is not None:
            safely(self._recorder, self._raised, error)

    def _raised(self, error: BaseException) -> None:
        """Record `error`, raised by the stream (including StopIteration). Keeps no reference to `error`."""
        kinds = {kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "langgraph.errors"}
        if isinstance(error, StopIteration | StopAsyncIteration) or kinds & {"GraphInterrupt", "ParentCommand"}:
            self._end("completed")  # the last two exceptions return control to the outer graph
        elif "GraphDrained" in kinds:
            self._end("cancelled")
        elif isinstance(error, Exception):
            failure = Failure.of(error)
            self.run.error(failure, "run", identity=id(error))
            self._end("error", failure)
        else:
            timed_out = self._callbacks.is_timed_out or is_time_out(error)
            self._end("abandoned" if isinstance(error, GeneratorExit) else "timed_out" if timed_out else "cancelled")

    def record_item(self, item: Any) -> None:
        """Ignore `item`: the callbacks have recorded the event."""

    def left(self) -> None:
        """Record that the consumer has left the stream."""
        safely(self._recorder, self._end, "abandoned")

    def _end(self, outcome: RunOutcome, failure: Failure | None = None) -> None:
        self.run.end(outcome, failure)
        self._recorder.close_run(self.run)


def _asked(given: Any) -> Any:
    """Prompt of a graph: the last message of the input state, or else the whole input."""
    messages = field(given, "messages") if not isinstance(given, str) else None
    if not isinstance(messages, list | tuple) or not messages:
        return messages or _plain(given)
    last = messages[-1]
    return last[1] if isinstance(last, tuple) and len(last) == 2 else text_of(field(last, "content")) or last


def _answered(state: Any) -> Json:
    """Answer of a graph: the structured response, the text of the last message, or else the whole state."""
    if (structured := field(state, "structured_response")) is not None:
        return snapshot(structured)
    messages = field(state, "messages") if isinstance(state, Mapping) else None
    last = messages[-1] if isinstance(messages, list) and messages else None
    return snapshot(_plain(state) if last is None else text_of(field(last, "content")))


def _plain(state: Any) -> Any:
    """State without LangGraph's internal entries, whose names start with two underscores."""
    if not isinstance(state, Mapping):
        return state
    return {name: value for name, value in state.items() if not str(name).startswith("__")}
