"""The pydantic-ai capability: its hooks in, a `Run` told what they saw.

The observer is present but passive. Four rules keep it so, each of which has broken an agent when it was not kept:

- It has an event wrapper and says it has none. The chain calls every wrapper of a stream that exists anyway; only the
  decision to *make* a request a streaming one asks the property.
- `for_run` returns `self`. A copy would make pydantic-ai extract every other capability's tools and settings anew.
- It overrides only hooks that pass everything through, `on_run_error` among them, which raises the same object again.
- Whatever of ours fails inside a hook is counted and swallowed, and no exception object is ever kept.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_ai import DeferredToolRequests, ModelRetry
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering, Instrumentation
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    FallbackExceptionGroup,
    SkipModelRequest,
    SkipToolExecution,
    ToolFailedError,
    ToolRetryError,
)
from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart

from sidestream.events import RequestOutcome, RunOutcome, ToolOutcome
from sidestream.recording.context import Link, current, enclosing
from sidestream.recording.failure import Failure
from sidestream.recording.pricing import Cost, price_list_version
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request_recorder import RequestRecorder, monotonic_ns
from sidestream.recording.response import NOTHING_KNOWN, ResponseFacts
from sidestream.recording.run_recorder import RunRecorder
from sidestream.recording.snapshot import snapshot
from sidestream.recording.span_context import Inside, current_span, records

from . import caller_exit, compat, convert
from .caller_exit import raised_by_consumer
from .event_streams import KINDS, args_text, deferred, observe_model_stream, observe_tool_stream
from .provider_tools import answer_is_complete, is_provider_tool, names_of, part_is_complete
from .run_state import RunState


class Observer(compat.SafeAtRuntime, AbstractCapability[Any]):
    """Observes every run of the agents it is attached to, and changes nothing."""

    # An agent has one capability of an id: attached twice, an observer is there once, and those of two sidecars both.
    id: str | None = "sidestream"

    def __init__(self, recorder: Recorder, id: str = "sidestream") -> None:
        compat.warn_of_missing()
        self.id = id
        self._recorder = recorder
        self._runs: dict[str | None, RunState] = {}
        self._callers: weakref.WeakValueDictionary[str | None, asyncio.Task[Any]] = weakref.WeakValueDictionary()

    @classmethod
    def combine(cls, capabilities: Sequence[AbstractCapability[Any]]) -> AbstractCapability[Any]:
        return capabilities[-1]

    @classmethod
    def get_serialization_name(cls) -> str | None:
        return None

    def get_ordering(self) -> CapabilityOrdering:
        # Outermost, to see what the caller sees; inside Instrumentation, whose span is then current in our hooks.
        return CapabilityOrdering(position="outermost", wrapped_by=[Instrumentation])

    @property
    def has_wrap_run_event_stream(self) -> bool:
        return False

    def listens_to(self, event: Any) -> bool:
        return False  # asked of each event of a stream; it has no `on_event`, and finding that out takes a while

    def for_run(self, ctx: Any) -> Coroutine[Any, Any, AbstractCapability[Any]]:
        # Called by the task that begins the run, and awaited by another. No hook runs in the former.
        caller = self._try(asyncio.current_task)
        if caller is not None:
            self._callers[ctx.run_id] = caller
        return self._for_run(ctx)

    async def _for_run(self, ctx: Any) -> AbstractCapability[Any]:
        return RealtimeObserver(self) if getattr(ctx, "realtime", False) else self

    def left(self, run_id: str | None, of_its_own_accord: bool) -> None:
        """Told by the watch around `run_stream_events()`, before the run it leaves is torn down."""
        state = self._runs.get(run_id)
        if state is not None:
            state.leaving = of_its_own_accord
            state.consumer = asyncio.current_task()

    def forget_runs(self) -> None:
        """In a forked child: the parent's runs are not ours to end."""
        self._runs.clear()

    def _try(self, call: Callable[..., Any], *args: Any) -> Any:
        return safely(self._recorder, call, *args)

    # --- the run ---

    async def wrap_run(self, ctx: Any, *, handler: Callable[[], Awaitable[Any]]) -> Any:
        state: RunState | None = self._try(self._open, ctx) if self._recorder.active else None
        if state is None:
            return await handler()
        # No context variable is set here: pydantic-ai would carry it into the caller's context, and take it back with a
        # token, which raises where the run is closed in another context than the one it was opened in.
        try:
            result = await handler()
        except BaseException as error:
            self._try(self._close, state, ctx, None, error)
            raise
        else:
            self._try(self._close, state, ctx, result, None)
            return result
        finally:
            self._try(self._forget, state)

    def _open(self, ctx: Any) -> RunState:
        name = ctx.agent.name if ctx.agent is not None else None
        run = self._recorder.open_run(ctx.run_id or "", name, enclosing(self._recorder))
        state = self._runs[ctx.run_id] = RunState(self._recorder, run)
        state.caller = self._callers.pop(ctx.run_id, None)
        run.start(
            prompt=snapshot(ctx.prompt) if self._recorder.wants_content else None,
            model=convert.model_name(ctx.model),
            conversation_id=convert.conversation_id(ctx.conversation_id, ctx.messages),
            mode="realtime" if getattr(ctx, "realtime", False) else "graph",
            caller=current_span(),
            instrumented=records(getattr(ctx, "tracer", None)),
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

    def _close(self, state: RunState, ctx: Any, result: Any, error: BaseException | None) -> None:
        run = state.run
        outcome: RunOutcome = "completed" if error is None else self._outcome(state, ctx, error)
        self._try(self._end_interrupted, state, result, outcome)
        if getattr(ctx, "realtime", False):
            self._try(self._session_used, state, ctx, "ok" if error is None else "cancelled")
        if error is None:
            if result is not None:
                if isinstance(result.output, DeferredToolRequests):  # `run_stream()` shows no event of them
                    self._try(deferred, state, result.output)
                run.final_result(state.content(result.output), type(result.output).__name__)
            run.end(outcome)
            return
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            # Of an error, the part of the run that it came from has told already.
            run.end(outcome, _failure_behind(state) if outcome == "error" else None)
            return
        failure = Failure.of(error)
        if outcome == "error":
            run.error(failure, "run", identity=id(error))
        run.end(outcome, failure)

    def _session_used(self, state: RunState, ctx: Any, outcome: RequestOutcome) -> None:
        """A realtime session is told as one request: it has no others, and its tokens are paid for all the same."""
        used = convert.usage(ctx.usage)
        if used is None:
            return
        usd = getattr(ctx.usage, "cost", None)
        cost = None if usd is None else Cost(usd, "genai-prices", price_list_version())
        model = convert.model_name(ctx.model) or "unknown"
        request = state.run.request(
            model=model, provider=getattr(ctx.model, "system", None), streaming=True, at=state.run.started_ns
        )
        facts = ResponseFacts(
            usage=used,
            usage_source="provider" if outcome == "ok" else "partial",
            cost=cost,
            unpriced=cost is None,
            response_model=model,
        )
        request.end(outcome, facts)

    def _forget(self, state: RunState) -> None:
        if not state.run.ended:  # ending it failed: it ends all the same, with what is certain
            state.run.end("error")
        if self._runs.get(state.run.run_id) is state:
            del self._runs[state.run.run_id]
        self._recorder.close_run(state.run)

    def _outcome(self, state: RunState, ctx: Any, error: BaseException) -> RunOutcome:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            return self._stopped(state, ctx)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return "cancelled"
        return "abandoned" if state.consumer_raised and not state.run.knows(error) else "error"

    def _stopped(self, state: RunState, ctx: Any) -> RunOutcome:
        """The outcome of a run that did not fail by itself, and was ended from outside.

        `on_run_error` tells a cancellation from a consumer that leaves, but for three cases: a task that is cancelled
        in its first turns, a program that is interrupted (`asyncio.run` cancels every task then), and a program that
        caught the provider's error and left the stream.
        """
        cancelled = caller_exit.is_cancelled(state.caller, state.leaving)
        if _failure_behind(state) is not None and not cancelled:
            return "error"
        if state.leaving or not (state.failed or cancelled):
            return "abandoned"
        own_limit = compat.own_limit_expired(ctx)
        limited = any(caller_exit.is_timed_out(task) for task in (state.caller, state.consumer) if task is not None)
        return "timed_out" if own_limit or limited else "cancelled"

    def _end_interrupted(self, state: RunState, result: Any, run_outcome: RunOutcome) -> None:
        if not state.interrupted:
            return
        messages = result.all_messages() if result is not None else state.messages
        partial = [
            message
            for message in messages
            if isinstance(message, ModelResponse)
            and message.run_id == state.run.run_id
            and message.state in ("interrupted", "suspended")
        ]
        for request, at in state.interrupted:
            facts = self._facts(request, partial.pop(0), partial=True) if partial else NOTHING_KNOWN
            left = run_outcome in ("abandoned", "completed")
            outcome: RequestOutcome = "error" if request.failure else "interrupted" if left else "cancelled"
            request.end(outcome, facts, at=at)
        state.interrupted.clear()

    # --- model requests ---

    async def wrap_model_request(
        self, ctx: Any, *, request_context: Any, handler: Callable[[Any], Awaitable[ModelResponse]]
    ) -> ModelResponse:
        state = self._state(ctx)
        request: RequestRecorder | None = self._try(self._request, state, ctx, request_context) if state else None
        if state is None or request is None:
            return await handler(request_context)
        # Streaming, this task is the hook's alone, and pydantic-ai takes the context from here to where it asks the
        # provider, which is the consumer's task.
        inside = state.inside = self._try(self._go_inside, state.run, request.span)
        try:
            if request.streaming:
                response = await _NotingSuspension(handler(request_context), request)
            else:
                response = await handler(request_context)
        except BaseException as error:
            self._try(self._request_failed, state, request, error)
            raise
        finally:
            if inside is not None:
                self._try(inside.leave)
        self._try(self._request_done, state, request, response)
        return response

    def _request(self, state: RunState, ctx: Any, request_context: Any) -> RequestRecorder:
        state.messages = ctx.messages
        state.settled.clear()
        state.refused.clear()
        messages = request_context.messages
        for retry in convert.retries(messages):
            state.run.retry(**retry)
        if state.request is None:
            state.system_prompts = convert.system_prompts(messages, state.run.run_id)
        texts = (state.system_prompts, getattr(messages[-1], "instructions", None) if messages else None)
        told = "\n\n".join(text for text in texts if text) or None
        changed, state.instructions = told != state.instructions, told
        model = request_context.model
        state.request = state.run.request(
            model=convert.model_name(model) or "unknown",
            provider=model.system,
            streaming=request_context.streaming,
            messages=len(messages),
            instructions=told if changed and self._recorder.wants_content else None,
            settings=convert.settings(request_context.model_settings),
            tools=convert.tool_names(request_context.model_request_parameters),
        )
        return state.request

    def _request_done(self, state: RunState, request: RequestRecorder, response: ModelResponse) -> None:
        if not request.streaming:
            self._parts_unstreamed(state, request, response)
        answer_is_complete(state)
        complete = response.state == "complete"
        facts = self._facts(request, response, partial=not complete)
        # Not complete: the caller broke out of `run_stream()`, or the provider is still at work (suspended).
        left: RequestOutcome = "error" if request.failure else "interrupted"
        request.end("ok" if complete or response.state == "suspended" else left, facts)

    def _facts(self, request: RequestRecorder, response: ModelResponse, *, partial: bool) -> ResponseFacts:
        # Of a fallback, the model that was asked first is not the one that answered, and its price is another.
        asked = None if getattr(response, "failed_attempts", None) else request.model
        return convert.response_facts(response, self._recorder.pricing, partial=partial, asked=asked)

    def _parts_unstreamed(self, state: RunState, request: RequestRecorder, response: ModelResponse) -> None:
        for part in response.parts:
            if is_provider_tool(part):
                part_is_complete(state, part)
        if not self._recorder.wants_content:
            return
        now = monotonic_ns()
        for index, part in enumerate(response.parts):
            match part:
                case TextPart() | ThinkingPart():
                    request.whole(index, KINDS[type(part)], part.content, now)
                case ToolCallPart():
                    text = args_text(part.args)
                    request.whole(
                        index, "tool_call", text, now, tool_name=part.tool_name, tool_call_id=part.tool_call_id
                    )
                case _:
                    whole = getattr(part, "args", None) or getattr(part, "content", None)
                    names = names_of(part)
                    request.whole(index, "other", snapshot(whole), now, part_kind=part.part_kind, **names)

    def _request_failed(self, state: RunState, request: RequestRecorder, error: BaseException) -> None:
        if isinstance(error, SkipModelRequest):
            request.end("skipped", self._facts(request, error.response, partial=False))
        elif isinstance(error, ModelRetry):
            request.end("retry", failure=Failure.of(error))
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            # Streaming: the stream failed or its consumer stopped, so pydantic-ai cancelled this hook's task. What was
            # used until then is in the history once the run unwinds.
            if state.run.ended or not request.streaming:
                request.end("cancelled")
            else:
                state.interrupted.append((request, monotonic_ns()))
        else:
            failure = Failure.of(error)
            state.run.error(failure, "model", identity=id(error), request=request.number)
            tried = getattr(error, "attempts", None) if isinstance(error, FallbackExceptionGroup) else None
            attempts = convert.attempts(tried, self._recorder.pricing)
            failed = attempts[-1].model if attempts else getattr(error, "model_name", None)
            facts = ResponseFacts(attempts=attempts, response_model=failed if failed != request.model else None)
            request.end("error", facts, failure=failure)

    def _go_inside(self, run: RunRecorder, number: int) -> Inside | None:
        """Have the spans that others make from now on be children of the run's span `number`.

        Only where it will be exported, and where pydantic-ai's own span of the same thing is not current already.
        """
        if run.sampled is None or run.instrumented:
            return None
        span = run.span(number)
        return Inside(span) if span else None

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
                self._try(self._tool_invalid, ctx, call, error)
            raise

    def _tool_invalid(self, ctx: Any, call: Any, error: Exception) -> None:
        state = self._state(ctx)
        if state is not None:
            state.settled.add(call.tool_call_id)
            run = state.run
            span = run.tool_start(call.tool_name, call.tool_call_id, state.content(call.args), ctx.retry + 1)
            run.tool_end(span, "invalid", failure=Failure.of(error), executed=False)

    async def wrap_tool_execute(
        self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Callable[[Any], Awaitable[Any]]
    ) -> Any:
        state = self._state(ctx)
        span: int | None = self._try(self._tool_start, state, ctx, call, args) if state else None
        if state is None or span is None:
            return await handler(args)
        previous = current.get()
        current.set(Link(state.run, call.tool_call_id, previous, span=span, around=self._try(current_span)))
        inside: Inside | None = self._try(self._go_inside, state.run, span)
        try:
            result = await handler(args)
        except BaseException as error:
            self._try(self._tool_failed, state, span, call, error)
            raise
        else:
            self._try(self._tool_done, state, span, result)
            return result
        finally:
            if inside is not None:
                self._try(inside.leave)
            current.set(previous)

    def _tool_start(self, state: RunState, ctx: Any, call: Any, args: Any) -> int:
        state.settled.add(call.tool_call_id)
        return state.run.tool_start(call.tool_name, call.tool_call_id, state.content(args), ctx.retry + 1)

    def _tool_done(self, state: RunState, span: int, result: Any) -> None:
        state.run.tool_end(span, "ok", result=snapshot(result) if self._recorder.wants_content else None)

    def _tool_failed(self, state: RunState, span: int, call: Any, error: BaseException) -> None:
        run = state.run
        outcome: ToolOutcome
        match error:
            case asyncio.CancelledError() if not _is_cancelled():  # as the scopes of a library let it out
                state.leaked = Failure.of(error)
                outcome = "failed"
            case asyncio.CancelledError() | GeneratorExit():
                run.tool_end(span, "cancelled")
                return
            case SkipToolExecution():
                run.tool_end(span, "skipped", result=state.content(error.result))
                return
            case CallDeferred() | ApprovalRequired():
                run.tool_end(span, "deferred")
                return
            case ToolRetryError() | ModelRetry() | ValidationError():
                outcome = "retry"
            case _:
                outcome = "failed"
        failure = Failure.of(error)
        run.tool_end(span, outcome, failure=failure)
        if outcome == "failed" and not isinstance(error, ToolFailedError):
            run.error(failure, "tool", identity=id(error), tool_name=call.tool_name, tool_call_id=call.tool_call_id)

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
        current.set(Link(state.run, None, previous, "output", around=self._try(current_span)))
        inside: Inside | None = self._try(self._go_inside, state.run, 0)
        try:
            return await handler(output)
        except (ToolRetryError, ModelRetry, ValidationError):
            raise  # the model is asked again, which the next request tells
        except Exception as error:
            self._try(self._output_failed, state, error)
            raise
        finally:
            if inside is not None:
                self._try(inside.leave)
            current.set(previous)

    def _output_failed(self, state: RunState, error: Exception) -> None:
        state.run.error(Failure.of(error), "output", identity=id(error))


def _failure_behind(state: RunState) -> Failure | None:
    """What failed before a run was ended from outside: the provider's stream, or a tool that let a cancellation out."""
    broken = state.request.failure if state.request is not None else None
    return broken or state.leaked


def _is_cancelled() -> bool:
    """Whether somebody has cancelled the current task."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class RealtimeObserver(AbstractCapability[Any]):
    """The hooks that a realtime session calls, lent from the observer.

    A class of its own, for a session warns about graph hooks that it never calls, and applies an event wrapper only if
    one is announced. It streams anyway.
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


class _NotingSuspension:
    """Awaits `awaitable`, noting on `request` when it was last suspended.

    A streaming request's hook is suspended for the last time when its stream is open and the consumer may start to
    pull. What passes from then to the first pull is the consumer's time, and nothing else tells it.
    """

    __slots__ = ("_awaitable", "_request")

    def __init__(self, awaitable: Awaitable[ModelResponse], request: RequestRecorder) -> None:
        self._awaitable = awaitable
        self._request = request

    def __await__(self) -> Generator[Any, Any, ModelResponse]:
        steps = self._awaitable.__await__()
        request = self._request
        try:
            future = next(steps)
            while True:
                request.stream_opened_ns = monotonic_ns()
                try:
                    value = yield future
                except GeneratorExit:
                    steps.close()
                    raise
                except BaseException as error:
                    future = steps.throw(error)
                else:
                    future = steps.send(value)
        except StopIteration as stop:
            response: ModelResponse = stop.value
            return response
