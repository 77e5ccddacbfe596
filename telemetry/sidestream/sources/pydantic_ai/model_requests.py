"""Model requests: records of sending, answers and failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any

import msgspec
from pydantic_ai import ModelRetry
from pydantic_ai.exceptions import FallbackExceptionGroup, SkipModelRequest
from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart

from sidestream.events import RequestOutcome
from sidestream.recording.failure import Failure
from sidestream.recording.recorder import Recorder
from sidestream.recording.request_recorder import RequestRecorder, monotonic_ns
from sidestream.recording.response import NOTHING_KNOWN, AnyFacts, ResponseFacts
from sidestream.recording.sent import NewMessage
from sidestream.recording.snapshot import snapshot

from . import compat, convert
from .event_streams import KINDS, args_text
from .provider_tools import answer_is_complete, is_provider_tool, names_of, part_is_complete
from .run_state import RunState


def begin_request(state: RunState, ctx: Any, request_context: Any) -> RequestRecorder:
    """Record the start of a request, and the retries that caused it."""
    state.messages = ctx.messages
    state.settled.clear()
    state.refused.clear()
    messages = request_context.messages
    for part in messages[-1].parts if messages else ():
        if getattr(part, "retry", None) is not None:
            for retry in convert.retries(messages):
                state.run.retry(**retry)
            break
    state.model = request_context.model
    state.request = state.run.open_request(
        model=convert.model_name(state.model) or "unknown", streaming=request_context.streaming
    )
    if not compat.PREPARES_WITHIN_REQUEST:
        send_request(state, state.request, request_context)
    return state.request


def send_request(state: RunState, request: RequestRecorder, request_context: Any) -> None:
    """Record the sent request, after history processors and other hooks."""
    messages = request_context.messages
    if request.number == 1:
        state.system_prompts = convert.system_prompts(messages, state.run.run_id)
    instructions = convert.instructions(messages, state.system_prompts)
    changed, state.instructions = instructions != state.instructions, instructions
    model, parameters = request_context.model, request_context.model_request_parameters
    content = state.recorder.wants_content
    sent = state.outgoing.request(messages, parameters) if content else None
    request.send(
        model=None if model is state.model else convert.model_name(model),
        provider=model.system,
        messages=len(messages),
        instructions=instructions if changed and content else None,
        settings=convert.settings(request_context.model_settings),
        stop_sequences=convert.stop_sequences(request_context.model_settings) if content else None,
        tools=state.outgoing.tool_names if content else convert.tool_names(parameters),
        sent=sent,
    )


def request_done(state: RunState, request: RequestRecorder, response: ModelResponse) -> None:
    """Record the answer."""
    answer = answer_message(state, response)
    whole = False
    if not request.streaming:
        whole = answer is not None and KINDS.keys() >= set(map(type, response.parts))
        if not whole:
            _parts_unstreamed(state, request, response)
    if state.provider_tools:
        answer_is_complete(state)
    complete = response.state == "complete"
    facts = response_facts(state, request, response, partial=not complete)
    # Incomplete: the caller left `run_stream()`, or the provider continues in the background (suspended).
    left: RequestOutcome = "error" if request.failure else "interrupted"
    outcome: RequestOutcome = "ok" if complete or response.state == "suspended" else left
    request.end(outcome, facts, answer=answer, whole=whole)


def answer_message(state: RunState, response: ModelResponse) -> NewMessage | None:
    """Record of `response` for the histories of later requests; None if no exporter may see content."""
    return state.outgoing.answer(response) if state.recorder.wants_content else None


def response_facts(state: RunState, request: RequestRecorder, response: ModelResponse, *, partial: bool) -> AnyFacts:
    """Facts of `response` including its cost, computed later from an immutable copy if possible."""
    copy = convert.shallow_copy(response)
    if copy is None:
        # For a fallback, the first requested model did not answer, and must not determine the price.
        asked = None if getattr(response, "failed_attempts", None) else request.model
        return convert.response_facts(response, state.recorder.pricing, partial=partial, asked=asked)
    return _LaterFacts(state.recorder, copy, partial, request.model)


class _LaterFacts(msgspec.Struct, frozen=True):
    """Callable that computes the facts of an answer off the path."""

    recorder: Recorder
    copy: convert.ResponseCopy
    partial: bool
    asked: str

    def __call__(self) -> ResponseFacts:
        try:
            response = self.copy.response()
            return convert.response_facts(response, self.recorder.pricing, partial=self.partial, asked=self.asked)
        except Exception as error:
            self.recorder.trouble(error)
            return NOTHING_KNOWN


def _parts_unstreamed(state: RunState, request: RequestRecorder, response: ModelResponse) -> None:
    """Record the parts of an answer that holds others than texts, thinking and tool calls."""
    for part in response.parts:
        if is_provider_tool(part):
            part_is_complete(state, part)
    if not state.recorder.wants_content:
        return
    now = monotonic_ns()
    for index, part in enumerate(response.parts):
        match part:
            case TextPart() | ThinkingPart():
                request.whole(index, KINDS[type(part)], part.content, now)
            case ToolCallPart():
                text = args_text(part.args)
                request.whole(index, "tool_call", text, now, tool_name=part.tool_name, tool_call_id=part.tool_call_id)
            case _:
                whole = getattr(part, "args", None) or getattr(part, "content", None)
                names = names_of(part)
                request.whole(index, "other", snapshot(whole), now, part_kind=part.part_kind, **names)


def request_failed(state: RunState, request: RequestRecorder, error: BaseException) -> None:
    """Record the end of the request that raised `error`."""
    if isinstance(error, SkipModelRequest):
        facts = response_facts(state, request, error.response, partial=False)
        request.end("skipped", facts, answer=answer_message(state, error.response))
    elif isinstance(error, ModelRetry):
        request.end("retry", failure=Failure.of(error))
    elif isinstance(error, asyncio.CancelledError | GeneratorExit):
        # The stream failed or its consumer stopped, so pydantic-ai cancelled the task of this hook. The usage so far
        # appears in the history once the run unwinds.
        if state.run.ended or not request.streaming:
            request.end("cancelled")
        else:
            state.interrupted.append((request, monotonic_ns()))
    else:
        failure = Failure.traced(error)
        state.run.error(failure, "model", identity=id(error), request=request.number)
        attempted = getattr(error, "attempts", None) if isinstance(error, FallbackExceptionGroup) else None
        attempts = convert.attempts(attempted, state.recorder.pricing)
        failed = attempts[-1].model if attempts else getattr(error, "model_name", None)
        facts = ResponseFacts(attempts=attempts, response_model=failed if failed != request.model else None)
        request.end("error", facts, failure=failure)


class WatchedRequest:
    """Awaits the request `awaitable`, and observes its suspensions.

    - Other hooks and history processors replace the list of messages in the request context. The first suspension
      afterwards means that the request has been sent and no answer has arrived.
    - A streaming request is suspended for the last time when its stream is open and the consumer may start to pull. The
      time from then to the first pull belongs to the consumer; no hook reports it.
    """

    __slots__ = ("_awaitable", "_context", "_messages", "_request", "_state")

    def __init__(
        self, awaitable: Awaitable[ModelResponse], state: RunState, request: RequestRecorder, request_context: Any
    ) -> None:
        self._awaitable = awaitable
        self._state = state
        self._request = request
        self._context = request_context
        self._messages = request_context.messages

    def _send(self) -> None:
        try:
            send_request(self._state, self._request, self._context)
        except Exception as error:
            self._state.recorder.trouble(error)

    def __await__(self) -> Generator[Any, Any, ModelResponse]:
        steps = self._awaitable.__await__()
        request, context = self._request, self._context
        try:
            future = next(steps)
            while True:
                request.stream_opened_ns = monotonic_ns()
                if not request.sent and type(context.messages) is list and context.messages is not self._messages:
                    self._send()
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
        finally:
            if not request.sent:  # never suspended, or failed before sending
                self._send()
