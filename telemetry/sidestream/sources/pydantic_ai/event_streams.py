"""Pass-through wrappers of the event streams of a run, which record the events."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import msgspec
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.messages import (
    CustomEvent,
    DeferredToolRequestsEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    ToolResultEvent,
)

from sidestream.events import ChunkKind, ToolOutcome
from sidestream.recording.failure import Failure
from sidestream.recording.records import Deltas
from sidestream.recording.request_recorder import RequestRecorder, monotonic_ns
from sidestream.recording.snapshot import snapshot

from .provider_tools import CALL, RETURN, names_of, part_is_complete
from .run_state import RunState

KINDS: dict[type, ChunkKind] = {TextPart: "text", ThinkingPart: "thinking", ToolCallPart: "tool_call"}
DELTAS: dict[type, ChunkKind] = {TextPartDelta: "text", ThinkingPartDelta: "thinking", ToolCallPartDelta: "tool_call"}


async def observe_model_stream(
    state: RunState, request: RequestRecorder, stream: AsyncIterable[Any]
) -> AsyncIterator[Any]:
    """Yield the events of one answer unchanged, and record the text and times of each delta."""
    # This is the caller's path. A delta of the current part costs two clock readings and one list addition.
    now = monotonic_ns
    iterator = stream.__aiter__()
    pull = iterator.__anext__
    none_at_hand = deltas = Deltas(-1)
    index = -1
    noted = deltas.noted
    request.begin_stream()
    try:
        while True:
            t_pull = now()
            try:
                event = await pull()
            except BaseException as error:
                state.safely(_stream_over, state, request, t_pull, error)
                if isinstance(error, StopAsyncIteration):
                    break
                raise
            t = now()
            try:
                if type(event) is PartDeltaEvent and event.index == index:
                    delta: Any = event.delta
                    kind = type(delta)
                    if kind is TextPartDelta or kind is ThinkingPartDelta:
                        noted += (delta.content_delta or "", t_pull, t)
                    else:
                        noted += (_delta_text(delta, deltas), t_pull, t)
                else:
                    deltas = _other_event(state, request, deltas, event, t_pull, t) or none_at_hand
                    index = deltas.index
                    noted = deltas.noted
            except Exception as error:
                state.recorder.trouble(error)
            yield event
    finally:
        state.safely(request.close_parts)
        await _aclose(iterator)


def _other_event(
    state: RunState, request: RequestRecorder, deltas: Deltas, event: Any, t_pull: int, t: int
) -> Deltas | None:
    """Record an event that is not a further delta of the current part; returns the `Deltas` expected next."""
    kind = type(event)
    if state.inside is not None:  # set for the provider's spans; the consumer must not see the span
        state.inside.leave()
    request.pulled(t_pull, t, chunk=kind is PartStartEvent or kind is PartDeltaEvent)
    if kind is PartStartEvent:
        return _part_begins(state, request, event.index, event.part, t)
    if kind is PartDeltaEvent:
        delta: Any = event.delta
        deltas = request.part(event.index)
        text = getattr(delta, "content_delta", None) or _delta_text(delta, deltas)
        request.resume_part(deltas, DELTAS.get(type(delta), "other"), t, text)
        return deltas
    if kind is PartEndEvent:
        request.close_part(event.index, t)
        if getattr(event.part, "part_kind", None) == CALL:
            part_is_complete(state, event.part)
        return None
    if isinstance(event, CustomEvent):
        _custom(state, event)
    return deltas


def _part_begins(state: RunState, request: RequestRecorder, index: int, begun: Any, t: int) -> Deltas:
    kind = KINDS.get(type(begun), "other")
    if kind == "tool_call":
        return request.open_part(
            index,
            kind,
            t,
            tool_name=begun.tool_name,
            tool_call_id=begun.tool_call_id,
            named=True,  # the tool's name is the first token of a tool call
            text=args_text(begun.args),
        )
    if kind != "other":
        return request.open_part(index, kind, t, text=begun.content)
    part_kind = getattr(begun, "part_kind", None)
    names = names_of(begun)
    text = getattr(begun, "transcript", None)
    deltas = request.open_part(index, kind, t, part_kind=part_kind, text=text, **names)
    whole = getattr(begun, "args", None) or getattr(begun, "content", None)
    if getattr(begun, "part_kind", None) == RETURN:  # complete from the start; an end event may never follow
        part_is_complete(state, begun)
    if whole is not None or names:
        request.whole(index, kind, snapshot(whole), t, part_kind=part_kind, **names)
    return deltas


def _stream_over(state: RunState, request: RequestRecorder, t_pull: int, error: BaseException) -> None:
    request.pulled(t_pull, monotonic_ns(), chunk=False)  # the final wait, possibly the longest
    request.close_parts()
    # A usage limit of the caller stops the stream as well, and is not the provider's error.
    if isinstance(error, Exception) and not isinstance(error, StopAsyncIteration | UsageLimitExceeded):
        failure = Failure.traced(error)
        request.failure = failure
        state.run.error(failure, "model", identity=id(error), request=request.number)


async def observe_tool_stream(state: RunState, stream: AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Yield the events of handling an answer, the only record of tools that are never executed."""
    iterator = stream.__aiter__()
    try:
        async for event in iterator:
            try:
                kind = type(event)
                if kind is FunctionToolResultEvent and event.part.tool_call_id in state.settled:
                    pass  # already recorded by the execution hook
                elif kind is not FunctionToolCallEvent or event.args_valid is False:
                    _tool_event(state, event)
            except Exception as error:
                state.recorder.trouble(error)
            yield event
    except Exception:
        state.safely(_calls_refused, state)
        raise
    finally:
        await _aclose(iterator)


def _tool_event(state: RunState, event: Any) -> None:
    if isinstance(event, ToolResultEvent):
        part = event.part
        if part.tool_call_id in state.settled:
            return
        cause = getattr(getattr(part, "retry", None), "cause", None)
        outcome: ToolOutcome | None = None
        if cause in ("unknown_tool", "unavailable_tool"):
            outcome = "unknown"
        elif getattr(part, "outcome", None) == "denied":
            outcome = "denied"
        if outcome is not None:
            _never_executed(state, part, outcome, result=part.content)
    elif isinstance(event, FunctionToolCallEvent):
        if event.args_valid is False:
            state.refused.append(event.part)
    elif isinstance(event, DeferredToolRequestsEvent):
        deferred(state, event.requests)
    elif isinstance(event, CustomEvent):
        _custom(state, event)


def deferred(state: RunState, requests: Any) -> None:
    """Record tool calls deferred to the application or an approval (`DeferredToolRequests`)."""
    for call in (*requests.calls, *requests.approvals):
        if call.tool_call_id not in state.settled:
            _never_executed(state, call, "deferred")


def _calls_refused(state: RunState) -> None:
    """Record the refused calls when the run ends. For a call of an unknown tool, no other event exists."""
    for call in state.refused:
        if call.tool_call_id not in state.settled:
            _never_executed(state, call, "unknown")


def _never_executed(state: RunState, call: Any, outcome: ToolOutcome, result: Any = None) -> None:
    state.settled.add(call.tool_call_id)
    args = state.content(getattr(call, "args", None))
    span = state.run.tool_start(call.tool_name, call.tool_call_id, args)
    state.run.tool_end(span, outcome, result=state.content(result), executed=False)


def _custom(state: RunState, event: Any) -> None:
    known = {"name", "tool_call_id", "tool_name", "event_kind"}
    payload = {name: value for name, value in vars(event).items() if name not in known and not name.startswith("_")}
    state.run.custom(
        event.name or type(event).__name__,
        state.content(payload),
        tool_name=event.tool_name,
        tool_call_id=event.tool_call_id,
    )


def _delta_text(delta: Any, deltas: Deltas) -> str:
    if type(delta) is ToolCallPartDelta:
        if delta.tool_name_delta:
            deltas.tool_name = (deltas.tool_name or "") + delta.tool_name_delta
        deltas.tool_call_id = deltas.tool_call_id or delta.tool_call_id
        return args_text(delta.args_delta) or ""
    return getattr(delta, "transcript_delta", None) or ""


def args_text(args: Any) -> str | None:
    if args is None or isinstance(args, str):
        return args
    try:
        return msgspec.json.encode(args).decode()
    except Exception:
        return msgspec.json.encode(snapshot(args)).decode()


async def _aclose(iterator: Any) -> None:
    aclose = getattr(iterator, "aclose", None)
    if aclose is not None:
        await aclose()
