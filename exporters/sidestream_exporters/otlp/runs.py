"""State of runs in progress, and the finished span in plain values."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, Protocol, TypeAlias, TypeVar

from sidestream.events import AgentStart, Json, LLMEnd, StreamEvent, ToolEnd, ToolStart
from sidestream.events.ids import span_id_of

from .content import Answer, Message, as_text

MAX_OPEN = 1_000
"""Open requests kept per run; also the limit for open tool calls and for tracebacks."""
MAX_EVENTS = 128
"""Most events of one span, as in OpenTelemetry's SDK."""

LONG_TEXT = 1_000
"""Longest text, in characters, that a span keeps after an endpoint refused the span as too large."""
LEFT_OUT = "sidestream.content_left_out"
"""Attribute with the number of characters removed from an oversized span."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 2**63 - 1

Attributes: TypeAlias = dict[str, Any]
SpanEvent: TypeAlias = tuple[str, int, Attributes]
"""Span event: name, time in Unix nanoseconds, attributes."""


@dataclass(slots=True)
class Span:
    """Finished span in plain values. Times are Unix nanoseconds."""

    name: str
    client: bool
    trace_id: int
    span_id: int
    parent_id: int | None
    start: int
    end: int
    attributes: Attributes
    span_events: list[SpanEvent]
    dropped_span_events: int
    failed: bool
    description: str | None
    """Error message of a failed span; subject to the content policy."""
    run_id: str
    seq: int
    """Sequence number of the span's first event; of its end event if the first one is missing."""

    def text_length(self) -> int:
        """Number of characters in attributes and span events."""
        length = sum(len(value) for value in self.attributes.values() if isinstance(value, str))
        for _, _, attributes in self.span_events:
            length += sum(len(value) for value in attributes.values() if isinstance(value, str))
        return length

    def without_long_texts(self) -> Span | None:
        """Copy without texts longer than `LONG_TEXT`, and with the attribute `LEFT_OUT`; None without long texts."""
        attributes, left_out = short_texts(self.attributes)
        span_events = []
        for name, at, values in self.span_events:
            short, more = short_texts(values)
            span_events.append((name, at, short))
            left_out += more
        description = self.description
        if description is not None and len(description) > LONG_TEXT:
            left_out += len(description) - LONG_TEXT
            description = description[:LONG_TEXT] + "…"
        if not left_out:
            return None
        attributes[LEFT_OUT] = left_out
        return replace(self, attributes=attributes, span_events=span_events, description=description)


class Item(Protocol):
    """Element of an export request: a span, or the log record of a score."""

    run_id: str
    seq: int

    def text_length(self) -> int: ...

    def without_long_texts(self: ItemT) -> ItemT | None: ...


ItemT = TypeVar("ItemT", bound=Item)


def short_texts(attributes: Attributes) -> tuple[Attributes, int]:
    """`attributes` without long texts, and the number of characters removed."""
    long = {name: value for name, value in attributes.items() if isinstance(value, str) and len(value) > LONG_TEXT}
    return {name: value for name, value in attributes.items() if name not in long}, sum(map(len, long.values()))


@dataclass(slots=True)
class Open:
    """Request or tool call in progress."""

    seq: int
    start: int
    data: Any
    new_messages: list[Message] = field(default_factory=list)
    answer: Answer | None = None


@dataclass(slots=True)
class Run:
    """State of a run in progress."""

    run_id: str
    started_ns: int
    """Start of the run in Unix nanoseconds; later times add the events' monotonic offsets."""
    start: AgentStart | None = None
    trace_id: int = 0
    root_run_id: str = ""
    parent_id: int | None = None
    sampled: bool = True
    instrumented: bool = False
    requests: dict[int, Open] = field(default_factory=dict)
    tools: dict[tuple[str, str | None], deque[Open]] = field(default_factory=dict)
    open_tools: int = 0
    span_events: list[SpanEvent] = field(default_factory=list)
    dropped_span_events: int = 0
    new_messages: list[Message] = field(default_factory=list)
    """Messages that the next request sends for the first time."""
    content: dict[str, str] = field(default_factory=dict)
    """Prompt, instructions, tools and output of the run, by attribute name."""
    output_type: str | None = None
    tool_descriptions: dict[str, str] = field(default_factory=dict)
    """Descriptions of the offered tools, by tool name; subject to the content policy."""
    stacks: dict[int | str | None, str] = field(default_factory=dict)
    """Tracebacks of failed requests and tool calls, by request number or tool call id."""
    error: str | None = None
    """Message of the run's last error; subject to the content policy."""

    def note(self, name: str, at: int, attributes: Attributes) -> None:
        if len(self.span_events) < MAX_EVENTS:
            self.span_events.append((name, at, attributes))
        else:
            self.dropped_span_events += 1

    def at(self, event: StreamEvent) -> int:
        """Time of `event` in Unix nanoseconds."""
        return clamp(self.started_ns + nanos(event.offset))

    def times(self, event: StreamEvent, opened: Open | None, duration: float | None) -> tuple[int, int]:
        """Start and end of the request or tool call that `event` ends. Without its start (`opened`), the start is the
        end minus `duration`."""
        if opened is None:
            over = self.at(event)
            return clamp(over - nanos(duration or 0)), over
        over = self.at(event) if duration is None else opened.start + nanos(duration)
        return opened.start, clamp(over)

    @property
    def span_id(self) -> int:
        return int(span_id_of(self.run_id, 0), 16)


def span_number(data: LLMEnd | ToolStart | ToolEnd, run_id: str, seq: int) -> int:
    """Span id of `data`; in an older log without span ids, derived from the first event's number `seq`."""
    return hex_id(data.span_id, 8) or int(span_id_of(run_id, seq), 16)


def error_text(error: Json) -> str | None:
    return None if error is None else as_text(error)


def bound(open_ones: dict[int, Open]) -> None:
    """Evict the oldest open request if `MAX_OPEN` are open: its end event was lost."""
    if len(open_ones) >= MAX_OPEN:
        del open_ones[next(iter(open_ones))]


def hex_id(text: str | None, size: int) -> int | None:
    """Integer of a hexadecimal id of `size` bytes; None for a malformed or zero id, as in a foreign log."""
    try:
        return int(text, 16) or None if text is not None and len(text) == 2 * size and text.isalnum() else None
    except ValueError:
        return None


def unix_ns(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


def nanos(seconds: float) -> int:
    return round(seconds * 1e6) * 1_000 if isfinite(seconds) and abs(seconds) < 1e10 else 0


def clamp(ns: int) -> int:
    return max(0, min(ns, _LATEST))
