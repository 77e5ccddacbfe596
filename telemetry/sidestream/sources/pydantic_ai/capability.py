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
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Sequence
from typing import Any, ClassVar

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
from sidestream.recording.request import Request, monotonic_ns
from sidestream.recording.run import Failure, Link, Run, current, enclosing
from sidestream.recording.span_context import Inside, current_span, records

from . import convert
from .caller_exit import raised_by_consumer
from .event_streams import KINDS, args_text, deferred, model_events, tool_events
from .run_state import Recorder, Watched, guard


class Observer(AbstractCapability[Any]):
    """Observes every run of the agents it is attached to, and changes nothing."""

    # An agent has one capability of an id: attached twice, an observer is there once, and those of two sidecars both.
    id: str | None = "sidestream"
    # Read by durable execution, which refuses unknown capabilities at run time; harmless where it is not known.
    _safe_at_runtime: ClassVar[bool] = True

    def __init__(self, recorder: Recorder, id: str = "sidestream") -> None:
        self.id = id
        self._recorder = recorder
        self._watched: dict[str | None, Watched] = {}

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

    async def for_run(self, ctx: Any) -> AbstractCapability[Any]:
        return RealtimeObserver(self) if getattr(ctx, "realtime", False) else self

    def left(self, run_id: str | None, of_its_own_accord: bool) -> None:
        """Told by the watch around `run_stream_events()`, before the run it leaves is torn down."""
        watched = self._watched.get(run_id)
        if watched is not None:
            watched.leaving = of_its_own_accord

    def forget_runs(self) -> None:
        """In a forked child: the parent's runs are not ours to end."""
        self._watched.clear()

    def _try(self, call: Callable[..., Any], *args: Any) -> Any:
        return guard(self._recorder, call, *args)

    # --- the run ---

    async def wrap_run(self, ctx: Any, *, handler: Callable[[], Awaitable[Any]]) -> Any:
        watched: Watched | None = self._try(self._open, ctx) if self._recorder.active else None
        if watched is None:
            return await handler()
        # No context variable is set here: pydantic-ai would carry it into the caller's context, and take it back with a
        # token, which raises where the run is closed in another context than the one it was opened in.
        try:
            result = await handler()
        except BaseException as error:
            self._try(self._close, watched, ctx, None, error)
            raise
        else:
            self._try(self._close, watched, ctx, result, None)
            return result
        finally:
            self._try(self._let_go, watched)

    def _open(self, ctx: Any) -> Watched:
        name = ctx.agent.name if ctx.agent is not None else None
        run = self._recorder.open_run(ctx.run_id or "", name, enclosing(self._recorder))
        watched = self._watched[ctx.run_id] = Watched(self._recorder, run)
        run.start(
            prompt=convert.content(ctx.prompt) if self._recorder.wants_content else None,
            model=getattr(ctx.model, "model_name", None),
            conversation_id=convert.conversation_id(ctx.conversation_id, ctx.messages),
            mode="realtime" if getattr(ctx, "realtime", False) else "graph",
            caller=current_span(),
            instrumented=records(getattr(ctx, "tracer", None)),
        )
        return watched

    def _watch(self, ctx: Any) -> Watched | None:
        return self._watched.get(ctx.run_id)

    async def on_run_error(self, ctx: Any, *, error: BaseException) -> Any:
        watched = self._watch(ctx)
        if watched is not None:
            watched.failed = True
            watched.consumer_raised = bool(self._try(raised_by_consumer, error))
        raise error

    def _close(self, watched: Watched, ctx: Any, result: Any, error: BaseException | None) -> None:
        run = watched.run
        outcome: RunOutcome = "completed" if error is None else self._outcome(watched, ctx, error)
        self._try(self._end_interrupted, watched, result, outcome)
        if error is None:
            if result is not None:
                if isinstance(result.output, DeferredToolRequests):  # `run_stream()` shows no event of them
                    self._try(deferred, watched, result.output)
                run.final_result(watched.content(result.output), type(result.output).__name__)
            run.end(outcome)
            return
        failure = Failure.of(error)
        if outcome == "error":
            run.error(failure, "run", identity=id(error))
        run.end(outcome, None if isinstance(error, asyncio.CancelledError | GeneratorExit) else failure)

    def _let_go(self, watched: Watched) -> None:
        if not watched.run.ended:  # ending it failed: it ends all the same, with what is certain
            watched.run.end("error")
        if self._watched.get(watched.run.run_id) is watched:
            del self._watched[watched.run.run_id]
        self._recorder.close_run(watched.run)

    def _outcome(self, watched: Watched, ctx: Any, error: BaseException) -> RunOutcome:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            if not watched.failed or watched.leaving:
                return "abandoned"
            cancellation = getattr(ctx, "_cancellation", None)  # private; without it a time-out reads as a cancellation
            return "timed_out" if getattr(cancellation, "timed_out", False) else "cancelled"
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return "cancelled"
        return "abandoned" if watched.consumer_raised and not watched.run.knows(error) else "error"

    def _end_interrupted(self, watched: Watched, result: Any, run_outcome: RunOutcome) -> None:
        if not watched.interrupted:
            return
        messages = result.all_messages() if result is not None else watched.messages
        partial = [
            message
            for message in messages
            if isinstance(message, ModelResponse)
            and message.run_id == watched.run.run_id
            and message.state in ("interrupted", "suspended")
        ]
        for request, at in watched.interrupted:
            facts = self._facts(request, partial.pop(0), partial=True) if partial else {}
            left = run_outcome in ("abandoned", "completed")
            outcome: RequestOutcome = "error" if request.failure else "interrupted" if left else "cancelled"
            request.end(outcome, at=at, **facts)
        watched.interrupted.clear()

    # --- model requests ---

    async def wrap_model_request(
        self, ctx: Any, *, request_context: Any, handler: Callable[[Any], Awaitable[ModelResponse]]
    ) -> ModelResponse:
        watched = self._watch(ctx)
        request: Request | None = self._try(self._request, watched, ctx, request_context) if watched else None
        if watched is None or request is None:
            return await handler(request_context)
        # Streaming, this task is the hook's alone, and pydantic-ai takes the context from here to where it asks the
        # provider, which is the consumer's task.
        inside = watched.inside = self._try(self._go_inside, watched.run, request.seq)
        try:
            if request.streaming:
                response = await _NotingSuspension(handler(request_context), request)
            else:
                response = await handler(request_context)
        except BaseException as error:
            self._try(self._request_failed, watched, request, error)
            raise
        finally:
            if inside is not None:
                self._try(inside.leave)
        self._try(self._request_done, request, response)
        return response

    def _request(self, watched: Watched, ctx: Any, request_context: Any) -> Request:
        watched.messages = ctx.messages
        watched.settled.clear()
        watched.refused.clear()
        messages = request_context.messages
        for retry in convert.retries(messages):
            watched.run.retry(**retry)
        if watched.request is None:
            watched.system_prompts = convert.system_prompts(messages, watched.run.run_id)
        texts = (watched.system_prompts, getattr(messages[-1], "instructions", None) if messages else None)
        told = "\n\n".join(text for text in texts if text) or None
        changed, watched.instructions = told != watched.instructions, told
        model = request_context.model
        watched.request = watched.run.request(
            model=model.model_name,
            provider=model.system,
            streaming=request_context.streaming,
            messages=len(messages),
            instructions=told if changed and self._recorder.wants_content else None,
            settings=convert.settings(request_context.model_settings),
        )
        return watched.request

    def _request_done(self, request: Request, response: ModelResponse) -> None:
        if not request.streaming:
            self._parts_unstreamed(request, response)
        complete = response.state == "complete"
        facts = self._facts(request, response, partial=not complete)
        # Not complete: the caller broke out of `run_stream()`, or the provider is still at work (suspended).
        request.end("ok" if complete or response.state == "suspended" else "interrupted", **facts)

    def _facts(self, request: Request, response: ModelResponse, *, partial: bool) -> dict[str, Any]:
        pricing = self._recorder.pricing
        facts = convert.response_facts(response, pricing, partial=partial, asked=request.model)
        if facts["unpriced"]:
            self._recorder.unpriced(response.model_name)
        return facts

    def _parts_unstreamed(self, request: Request, response: ModelResponse) -> None:
        if not self._recorder.wants_content:
            return
        now = monotonic_ns()
        for index, part in enumerate(response.parts):
            match part:
                case TextPart() | ThinkingPart():
                    request.whole(index, KINDS[type(part)], part.content, now)
                case ToolCallPart():
                    text = args_text(part.args)
                    facts = {"tool_name": part.tool_name, "tool_call_id": part.tool_call_id}
                    request.whole(index, "tool_call", text, now, **facts)
                case _:
                    whole = getattr(part, "args", None) or getattr(part, "content", None)
                    request.whole(index, "other", convert.content(whole), now, part_kind=part.part_kind)

    def _request_failed(self, watched: Watched, request: Request, error: BaseException) -> None:
        if isinstance(error, SkipModelRequest):
            request.end("skipped", **self._facts(request, error.response, partial=False))
        elif isinstance(error, ModelRetry):
            request.end("retry", failure=Failure.of(error))
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            # Streaming: the stream failed or its consumer stopped, so pydantic-ai cancelled this hook's task. What was
            # used until then is in the history once the run unwinds.
            if watched.run.ended or not request.streaming:
                request.end("cancelled")
            else:
                watched.interrupted.append((request, monotonic_ns()))
        else:
            failure = Failure.of(error)
            watched.run.error(failure, "model", identity=id(error), request=request.number)
            tried = getattr(error, "attempts", None) if isinstance(error, FallbackExceptionGroup) else None
            attempts = convert.attempts(tried, self._recorder.pricing)
            request.end("error", failure=failure, attempts=attempts)

    def _go_inside(self, run: Run, seq: int) -> Inside | None:
        """Have the spans that others make from now on be children of the one that event `seq` begins.

        Only where it will be exported, and where pydantic-ai's own span of the same thing is not current already.
        """
        if run.sampled is None or run.instrumented:
            return None
        span = run.span(seq)
        return Inside(span) if span else None

    # --- the stream of events ---

    def wrap_run_event_stream(self, ctx: Any, *, stream: AsyncIterable[Any]) -> AsyncIterable[Any]:
        watched = self._watch(ctx)
        if watched is None:
            return stream
        request = watched.request
        if request is None or request.done:
            return tool_events(watched, stream)
        return model_events(watched, request, stream)

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
        watched = self._watch(ctx)
        if watched is not None:
            watched.settled.add(call.tool_call_id)
            run = watched.run
            key = run.tool_start(call.tool_name, call.tool_call_id, watched.content(call.args), ctx.retry + 1)
            run.tool_end(key, "invalid", failure=Failure.of(error), executed=False)

    async def wrap_tool_execute(
        self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Callable[[Any], Awaitable[Any]]
    ) -> Any:
        watched = self._watch(ctx)
        key: int | None = self._try(self._tool_start, watched, ctx, call, args) if watched else None
        if watched is None or key is None:
            return await handler(args)
        previous = current.get()
        current.set(Link(watched.run, call.tool_call_id, previous, seq=key, around=self._try(current_span)))
        inside: Inside | None = self._try(self._go_inside, watched.run, key)
        try:
            result = await handler(args)
        except BaseException as error:
            self._try(self._tool_failed, watched, key, call, error)
            raise
        else:
            self._try(self._tool_done, watched, key, result)
            return result
        finally:
            if inside is not None:
                self._try(inside.leave)
            current.set(previous)

    def _tool_start(self, watched: Watched, ctx: Any, call: Any, args: Any) -> int:
        watched.settled.add(call.tool_call_id)
        return watched.run.tool_start(call.tool_name, call.tool_call_id, watched.content(args), ctx.retry + 1)

    def _tool_done(self, watched: Watched, key: int, result: Any) -> None:
        watched.run.tool_end(key, "ok", result=convert.content(result) if self._recorder.wants_content else None)

    def _tool_failed(self, watched: Watched, key: int, call: Any, error: BaseException) -> None:
        run = watched.run
        outcome: ToolOutcome
        match error:
            case asyncio.CancelledError() | GeneratorExit():
                run.tool_end(key, "cancelled")
                return
            case SkipToolExecution():
                run.tool_end(key, "skipped", result=watched.content(error.result))
                return
            case CallDeferred() | ApprovalRequired():
                run.tool_end(key, "deferred")
                return
            case ToolRetryError() | ModelRetry() | ValidationError():
                outcome = "retry"
            case _:
                outcome = "failed"
        failure = Failure.of(error)
        run.tool_end(key, outcome, failure=failure)
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
        watched = self._watch(ctx)
        if watched is None or ctx.partial_output:
            return await handler(output)
        previous = current.get()
        current.set(Link(watched.run, None, previous, "output", around=self._try(current_span)))
        inside: Inside | None = self._try(self._go_inside, watched.run, 0)
        try:
            return await handler(output)
        except (ToolRetryError, ModelRetry, ValidationError):
            raise  # the model is asked again, which the next request tells
        except Exception as error:
            self._try(self._output_failed, watched, error)
            raise
        finally:
            if inside is not None:
                self._try(inside.leave)
            current.set(previous)

    def _output_failed(self, watched: Watched, error: Exception) -> None:
        watched.run.error(Failure.of(error), "output", identity=id(error))


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

    def __init__(self, awaitable: Awaitable[ModelResponse], request: Request) -> None:
        self._awaitable = awaitable
        self._request = request

    def __await__(self) -> Generator[Any, Any, ModelResponse]:
        steps = self._awaitable.__await__()
        request = self._request
        try:
            future = next(steps)
            while True:
                request.t_opened = monotonic_ns()
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
