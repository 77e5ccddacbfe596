"""Event model: the envelope, and one event class per type, for the log, exporters and readers.

An event is an envelope (time, run, place within the run) around the payload of its type. Both are plain `msgspec`
structs; this module knows nothing of pydantic-ai, OpenTelemetry or Prometheus.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from sidestream.errors import InvalidEventError

from . import payloads
from .payloads import Payload

SCHEMA_VERSION: Literal[1] = 1


class StreamEventType(StrEnum):
    """Types of events, as written in the log."""

    AGENT_START = "agent_start"
    LLM_START = "llm_start"
    LLM_CHUNK = "llm_chunk"
    LLM_END = "llm_end"
    TOOL_START = "tool_start"
    TOOL_END = "tool_end"
    RETRY = "retry"
    PROGRESS = "progress"
    FINAL_RESULT = "final_result"
    ERROR = "error"
    AGENT_END = "agent_end"
    CUSTOM = "custom"
    SCORE = "score"


class StreamEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="event_type"):
    """Envelope of an event. Each subclass defines the payload type of `data`.

    The event type is encoded first in the line, so that a reader can skip lines without decoding them.
    """

    event_type: ClassVar[StreamEventType]

    v: Literal[1] = SCHEMA_VERSION
    timestamp: datetime
    """UTC wall clock."""
    offset: float = 0.0
    """Seconds since the start of the run by the monotonic clock, unaffected by clock adjustments."""
    run_id: str = ""
    seq: int = 0
    """Place within the run, from 0 and without gaps. For a score, which is not part of the run, a random number."""
    agent_name: str | None = None
    data: Any


class AgentStartEvent(StreamEvent, frozen=True, kw_only=True, tag="agent_start"):
    event_type: ClassVar[StreamEventType] = StreamEventType.AGENT_START
    data: payloads.AgentStart


class LLMStartEvent(StreamEvent, frozen=True, kw_only=True, tag="llm_start"):
    event_type: ClassVar[StreamEventType] = StreamEventType.LLM_START
    data: payloads.LLMStart


class LLMChunkEvent(StreamEvent, frozen=True, kw_only=True, tag="llm_chunk"):
    event_type: ClassVar[StreamEventType] = StreamEventType.LLM_CHUNK
    data: payloads.LLMChunk


class LLMEndEvent(StreamEvent, frozen=True, kw_only=True, tag="llm_end"):
    event_type: ClassVar[StreamEventType] = StreamEventType.LLM_END
    data: payloads.LLMEnd


class ToolStartEvent(StreamEvent, frozen=True, kw_only=True, tag="tool_start"):
    event_type: ClassVar[StreamEventType] = StreamEventType.TOOL_START
    data: payloads.ToolStart


class ToolEndEvent(StreamEvent, frozen=True, kw_only=True, tag="tool_end"):
    event_type: ClassVar[StreamEventType] = StreamEventType.TOOL_END
    data: payloads.ToolEnd


class RetryEvent(StreamEvent, frozen=True, kw_only=True, tag="retry"):
    event_type: ClassVar[StreamEventType] = StreamEventType.RETRY
    data: payloads.Retry


class ProgressEvent(StreamEvent, frozen=True, kw_only=True, tag="progress"):
    event_type: ClassVar[StreamEventType] = StreamEventType.PROGRESS
    data: payloads.Progress


class FinalResultEvent(StreamEvent, frozen=True, kw_only=True, tag="final_result"):
    event_type: ClassVar[StreamEventType] = StreamEventType.FINAL_RESULT
    data: payloads.FinalResult


class ErrorEvent(StreamEvent, frozen=True, kw_only=True, tag="error"):
    event_type: ClassVar[StreamEventType] = StreamEventType.ERROR
    data: payloads.Error


class AgentEndEvent(StreamEvent, frozen=True, kw_only=True, tag="agent_end"):
    event_type: ClassVar[StreamEventType] = StreamEventType.AGENT_END
    data: payloads.AgentEnd


class CustomEvent(StreamEvent, frozen=True, kw_only=True, tag="custom"):
    event_type: ClassVar[StreamEventType] = StreamEventType.CUSTOM
    data: payloads.Custom


class ScoreEvent(StreamEvent, frozen=True, kw_only=True, tag="score"):
    event_type: ClassVar[StreamEventType] = StreamEventType.SCORE
    data: payloads.Score


AnyEvent: TypeAlias = (
    AgentStartEvent
    | LLMStartEvent
    | LLMChunkEvent
    | LLMEndEvent
    | ToolStartEvent
    | ToolEndEvent
    | RetryEvent
    | ProgressEvent
    | FinalResultEvent
    | ErrorEvent
    | AgentEndEvent
    | CustomEvent
    | ScoreEvent
)

_EVENT_OF: dict[type[Payload], type[StreamEvent]] = {
    payloads.AgentStart: AgentStartEvent,
    payloads.LLMStart: LLMStartEvent,
    payloads.LLMChunk: LLMChunkEvent,
    payloads.LLMEnd: LLMEndEvent,
    payloads.ToolStart: ToolStartEvent,
    payloads.ToolEnd: ToolEndEvent,
    payloads.Retry: RetryEvent,
    payloads.Progress: ProgressEvent,
    payloads.FinalResult: FinalResultEvent,
    payloads.Error: ErrorEvent,
    payloads.AgentEnd: AgentEndEvent,
    payloads.Custom: CustomEvent,
    payloads.Score: ScoreEvent,
}


def make_event(
    data: Payload,
    *,
    timestamp: datetime | None = None,
    offset: float = 0.0,
    run_id: str = "",
    seq: int = 0,
    agent_name: str | None = None,
) -> StreamEvent:
    """Make the event that carries `data`. `timestamp` defaults to now (UTC).

    Raises `InvalidEventError` if `data` is not the payload of an event. Fields are not validated; the factories
    validate.
    """
    event = _EVENT_OF.get(type(data))
    if event is None:
        raise InvalidEventError(f"{type(data).__name__} is not the payload of an event; see sidestream.events.payloads")
    return event(
        timestamp=timestamp or datetime.now(UTC),
        offset=offset,
        run_id=run_id,
        seq=seq,
        agent_name=agent_name,
        data=data,
    )
