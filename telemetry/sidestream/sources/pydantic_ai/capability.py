"""The pydantic-ai capability: hooks that report to the recorder of a run.

The observer is passive. A violation of any of these four rules has broken an agent:

- The event wrapper exists, but `has_wrap_run_event_stream` is False. pydantic-ai calls the wrapper for every stream
  anyway; the property only decides whether a request is *made* streaming.
- `for_run` returns `self`. A copy would make pydantic-ai recompute the tools and settings of every other capability. -
Only hooks that pass everything through are overridden; `on_run_error` raises the same object again. - Failures of
Sidestream inside a hook are counted and swallowed, and no exception object is kept.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_ai import ModelRetry
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering, Instrumentation
from pydantic_ai.exceptions import ToolRetryError
from pydantic_ai.messages import ModelResponse

from sidestream.recording.context import Link, current, enclosing
from sidestream.recording.failure import Failure
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.snapshot import snapshot
from sidestream.recording.span_context import current_span, current_span_context, is_recording

from . import compat, convert
from .caller_exit import raised_by_consumer
from .event_streams import observe_model_stream, observe_tool_stream
from .model_requests import WatchedRequest, begin_request, request_done, request_failed
from .outgoing import KnownMessages, Outgoing
from .run_end import close_run
from .run_state import RunState
from .tool_calls import tool_done, tool_failed, tool_invalid, tool_start


class Observer(compat.SafeAtRuntime, AbstractCapability[Any]):
    """Passive capability that observes every run of the attached agents."""

    # An agent keeps one capability per id: attaching twice has no effect, and the observers of two sidecars coexist.
    id: str | None = "sidestream"

    def __init__(self, recorder: Recorder, id: str = "sidestream") -> None:
        compat.warn_of_missing()
        self.id = id
        self._recorder = recorder
        self._runs: dict[str | None, RunState] = {}
        self._messages = KnownMessages()
        self._callers: weakref.WeakValueDictionary[str | None, asyncio.Task[Any]] = weakref.WeakValueDictionary()

    @classmethod
    def combine(cls, capabilities: Sequence[AbstractCapability[Any]]) -> AbstractCapability[Any]:
        return capabilities[-1]

    @classmethod
    def get_serialization_name(cls) -> str | None:
        return None

    def get_ordering(self) -> CapabilityOrdering:
        # Outermost, to see the caller's view; inside Instrumentation, so that its span is current in the hooks.
        return CapabilityOrdering(position="outermost", wrapped_by=[Instrumentation])

    @property
    def has_wrap_run_event_stream(self) -> bool:
        return False

    def listens_to(self, event: Any) -> bool:
        return False  # called for each event of a stream; the default searches for an `on_event`, which is slow

    def for_run(self, ctx: Any) -> Coroutine[Any, Any, AbstractCapability[Any]]:
        # The task that starts the run calls this method, and another task awaits the result. No hook runs in the
        # former.
        caller = self._try(asyncio.current_task)
        if caller is not None:
            self._callers[ctx.run_id] = caller
        return self._for_run(ctx)

    async def _for_run(self, ctx: Any) -> AbstractCapability[Any]:
        return RealtimeObserver(self) if getattr(ctx, "realtime", False) else self

    def left(self, run_id: str | None, of_its_own_accord: bool) -> None:
        """Record how the consumer leaves `run_stream_events()`. Called before the teardown of the run."""
        state = self._runs.get(run_id)
        if state is not None:
            state.leaving = of_its_own_accord
            state.consumer = asyncio.current_task()

    def forget_runs(self) -> None:
        """Discard the runs in progress in a forked child, because they belong to the parent process."""
        self._runs.clear()

    def _try(self, call: Callable[..., Any], *args: Any) -> Any:
        return safely(self._recorder, call, *args)

    # --- the run ---

    async def wrap_run(self, ctx: Any, *, handler: Callable[[], Awaitable[Any]]) -> Any:
        state: RunState | None = self._try(self._open, ctx) if self._recorder.active else None
        if state is None:
            return await handler()
        # Set no context variable here: pydantic-ai would copy the value into the caller's context and reset the value
        # with a token, which raises if the run is closed in another context.
        try:
            result = await handler()
        except BaseException as error:
            self._try(close_run, state, ctx, None, error)
            raise
        else:
            self._try(close_run, state, ctx, result, None)
            return result
        finally:
            self._try(self._forget, state)

    def _open(self, ctx: Any) -> RunState:
        name = ctx.agent.name if ctx.agent is not None else None
        run = self._recorder.open_run(ctx.run_id or "", name, enclosing(self._recorder))
        state = self._runs[ctx.run_id] = RunState(self._recorder, run, Outgoing(self._messages))
        state.caller = self._callers.pop(ctx.run_id, None)
        run.start(
            prompt=snapshot(ctx.prompt) if self._recorder.wants_content else None,
            description=convert.description(ctx.agent),
            model=convert.model_name(ctx.model),
            conversation_id=convert.conversation_id(ctx.conversation_id, ctx.messages),
            mode="realtime" if getattr(ctx, "realtime", False) else "graph",
            caller=current_span(),
            instrumented=is_recording(getattr(ctx, "tracer", None)),
        )
        return state

    def _state(self, ctx: Any) -> RunState | None:
        return self._runs.get(ctx.run_id)

    async def on_run_error(self, ctx: Any, *, error: BaseException) -> Any:
        state = self._state(ctx)
        if state is not None:
            state.failed = True
            state.consumer_raised = bool(self._try(raised_by_consumer, error))
        raise error

    def _forget(self, state: RunState) -> None:
        if not state.run.ended:  # closing the run failed: record the end with the facts that are certain
            state.run.end("error")
        if self._runs.get(state.run.run_id) is state:
            del self._runs[state.run.run_id]
        self._recorder.close_run(state.run)

    # --- model requests ---

    async def wrap_model_request(
        self, ctx: Any, *, request_context: Any, handler: Callable[[Any], Awaitable[ModelResponse]]
    ) -> ModelResponse:
        state = self._runs.get(ctx.run_id)
        if state is None:
            return await handler(request_context)
        try:
            request = begin_request(state, ctx, request_context)
        except Exception as error:
            self._recorder.trouble(error)
            return await handler(request_context)
        # For a stream, this task belongs to the hook alone, and pydantic-ai copies the context from here to the request
        # in the consumer's task.
        inside = state.inside = state.enter(request.span)
        try:
            response = await WatchedRequest(handler(request_context), state, request, request_context)
        except BaseException as error:
            self._try(request_failed, state, request, error)
            raise
        finally:
            if inside is not None:
                state.leave(inside)
        try:
            request_done(state, request, response)
        except Exception as error:
            self._recorder.trouble(error)
        return response

    # --- the stream of events ---

    def wrap_run_event_stream(self, ctx: Any, *, stream: AsyncIterable[Any]) -> AsyncIterable[Any]:
        state = self._state(ctx)
        if state is None:
            return stream
        request = state.request
        if request is None or request.done:
            return observe_tool_stream(state, stream)
        return observe_model_stream(state, request, stream)

    # --- tools ---

    async def wrap_tool_validate(
        self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Callable[[Any], Awaitable[Any]]
    ) -> Any:
        try:
            return await handler(args)
        except (ValidationError, ModelRetry, ToolRetryError) as error:
            if not ctx.partial_output:
                self._try(tool_invalid, self._state(ctx), ctx, call, error)
            raise

    async def wrap_tool_execute(
        self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Callable[[Any], Awaitable[Any]]
    ) -> Any:
        state = self._runs.get(ctx.run_id)
        if state is None:
            return await handler(args)
        try:
            span = tool_start(state, ctx, call, args)
            previous = current.get()
            link = Link(state.run, call.tool_call_id, previous, "tool", span, current_span_context())
        except Exception as error:
            self._recorder.trouble(error)
            return await handler(args)
        current.set(link)
        inside = state.enter(span)
        try:
            result = await handler(args)
        except BaseException as error:
            self._try(tool_failed, state, span, call, error)
            raise
        else:
            try:
                tool_done(state, span, result)
            except Exception as error:
                self._recorder.trouble(error)
            return result
        finally:
            if inside is not None:
                state.leave(inside)
            current.set(previous)

    # --- output ---

    async def wrap_output_validate(
        self, ctx: Any, *, output_context: Any, output: Any, handler: Callable[[Any], Awaitable[Any]]
    ) -> Any:
        return await self._output(ctx, output, handler)

    async def wrap_output_process(
        self, ctx: Any, *, output_context: Any, output: Any, handler: Callable[[Any], Awaitable[Any]]
    ) -> Any:
        return await self._output(ctx, output, handler)

    async def _output(self, ctx: Any, output: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        state = self._state(ctx)
        if state is None or ctx.partial_output:
            return await handler(output)
        previous = current.get()
        current.set(Link(state.run, None, previous, "output", around=self._try(current_span_context)))
        inside = state.enter(0)
        try:
            return await handler(output)
        except (ToolRetryError, ModelRetry, ValidationError):
            raise  # a retry, which the next request records
        except Exception as error:
            self._try(self._output_failed, state, error)
            raise
        finally:
            if inside is not None:
                state.leave(inside)
            current.set(previous)

    def _output_failed(self, state: RunState, error: Exception) -> None:
        state.run.error(Failure.traced(error), "output", identity=id(error))


class RealtimeObserver(AbstractCapability[Any]):
    """Capability for a realtime session, with the hooks of an observer.

    Separate from the observer, because a session warns about graph hooks that it never calls, and applies an event
    wrapper only if `has_wrap_run_event_stream` is True. A session always streams, so True changes nothing.
    """

    def __init__(self, observer: Observer) -> None:
        self.id = observer.id
        self._observer = observer
        self.wrap_run = observer.wrap_run  # type: ignore[method-assign]
        self.on_run_error = observer.on_run_error  # type: ignore[method-assign]
        self.wrap_tool_validate = observer.wrap_tool_validate  # type: ignore[method-assign]
        self.wrap_tool_execute = observer.wrap_tool_execute  # type: ignore[method-assign]

    @property
    def has_wrap_run_event_stream(self) -> bool:
        return True

    def listens_to(self, event: Any) -> bool:
        return False

    def wrap_run_event_stream(self, ctx: Any, *, stream: AsyncIterable[Any]) -> AsyncIterable[Any]:
        return self._observer.wrap_run_event_stream(ctx, stream=stream)
