"""Factories for single events: required fields are arguments, and invalid values raise `InvalidEventError`."""

from __future__ import annotations

from typing import Any, Literal

from sidestream.errors import InvalidEventError

from . import (
    AgentEnd,
    AgentStart,
    ChunkKind,
    Error,
    Json,
    LLMChunk,
    Payload,
    Progress,
    RunOutcome,
    StreamEvent,
    ToolEnd,
    ToolOutcome,
    ToolStart,
    decode_line,
    encode_line,
    make_event,
)


def _require(event: str, **fields: tuple[object, type | tuple[type, ...]]) -> None:
    for name, (value, kind) in fields.items():
        if not isinstance(value, kind) or value == "":
            kinds = kind if isinstance(kind, tuple) else (kind,)
            wanted = " or ".join(k.__name__ for k in kinds)
            got = "an empty string" if value == "" else f"{type(value).__name__} {value!r}"
            raise InvalidEventError(f"{event}: `{name}` must be a {wanted}, not {got}")


def _checked(data: Payload, envelope: dict[str, Any]) -> StreamEvent:
    try:
        event = make_event(data, **envelope)
        decode_line(encode_line(event))
    except InvalidEventError as error:
        raise InvalidEventError(f"{type(data).__name__}: {error}") from None
    return event


def llm_chunk_event(text: str, *, kind: ChunkKind = "text", **envelope: Any) -> StreamEvent:
    """Event for a piece of an answer. `envelope` of every factory takes the keyword arguments of `make_event`."""
    if text != "":
        _require("llm_chunk_event", text=(text, str))
    return _checked(LLMChunk(kind=kind, text=text), envelope)


def tool_start_event(
    tool_name: str, args: Json = None, *, tool_call_id: str | None = None, **envelope: Any
) -> StreamEvent:
    """Event for the start of a tool's execution."""
    _require("tool_start_event", tool_name=(tool_name, str))
    return _checked(ToolStart(tool_name=tool_name, args=args, tool_call_id=tool_call_id), envelope)


def tool_end_event(
    tool_name: str,
    result: Json = None,
    duration_seconds: float | None = None,
    *,
    outcome: ToolOutcome = "ok",
    tool_call_id: str | None = None,
    **envelope: Any,
) -> StreamEvent:
    """Event for the end of a tool's execution, after `duration_seconds` seconds."""
    _require("tool_end_event", tool_name=(tool_name, str))
    data = ToolEnd(
        tool_name=tool_name,
        result=result,
        duration_seconds=duration_seconds,
        outcome=outcome,
        tool_call_id=tool_call_id,
    )
    return _checked(data, envelope)


def progress_event(
    iteration: int, total_tokens: int | None = None, total_cost_usd: float | None = None, **envelope: Any
) -> StreamEvent:
    """Event for the end of a model request, with the run's totals so far: tokens, and US dollars."""
    _require("progress_event", iteration=(iteration, int))
    return _checked(Progress(iteration=iteration, total_tokens=total_tokens, total_cost_usd=total_cost_usd), envelope)


def error_event(
    error: str,
    exception_type: str | None = None,
    *,
    where: Literal["model", "tool", "output", "run"] = "run",
    **envelope: Any,
) -> StreamEvent:
    """Event for a failure; `exception_type` is the qualified name of the exception."""
    _require("error_event", error=(error, str))
    return _checked(Error(error=error, exception_type=exception_type, where=where), envelope)


def agent_start_event(
    agent_name: str, prompt: Json = None, *, run_id: str = "", model: str | None = None, **envelope: Any
) -> StreamEvent:
    """Event for the start of a run of the agent `agent_name`."""
    _require("agent_start_event", agent_name=(agent_name, str))
    data = AgentStart(root_run_id=run_id, prompt=prompt, model=model)
    return _checked(data, {"agent_name": agent_name, "run_id": run_id, **envelope})


def agent_end_event(
    agent_name: str,
    success: bool,
    duration_seconds: float,
    *,
    total_iterations: int | None = None,
    total_tokens: int | None = None,
    outcome: RunOutcome | None = None,
    **envelope: Any,
) -> StreamEvent:
    """Event for the end of a run of the agent `agent_name`, after `duration_seconds` seconds."""
    _require(
        "agent_end_event",
        agent_name=(agent_name, str),
        success=(success, bool),
        duration_seconds=(duration_seconds, (int, float)),
    )
    data = AgentEnd(
        outcome=outcome or ("completed" if success else "error"),
        success=success,
        duration_seconds=duration_seconds,
        total_iterations=total_iterations,
        total_tokens=total_tokens,
    )
    return _checked(data, {"agent_name": agent_name, **envelope})
