"""Adapter for the OpenAI Agents SDK: events of a streamed run."""

from __future__ import annotations

from typing import Any

from sidestream.sources.tap.recorder import StreamRecorder

from .fields import field
from .openai_responses import OpenAIResponses

_TYPES = {"raw_response_event", "run_item_stream_event", "agent_updated_stream_event"}
_OVER = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


class OpenAIAgents:
    """Items are events of `stream_events()`: requests, the tools between them, and hand-offs as `custom` events.

    A tool starts when the SDK reports the model's call, and ends with its output.
    """

    def __init__(self) -> None:
        self._answer = OpenAIResponses()
        self._tools: dict[str | None, str] = {}
        """Names of running tools, by tool call id."""
        self._agent: str | None = None

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is an event of `stream_events()`."""
        return field(item, "type") in _TYPES

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        match field(item, "type"):
            case "raw_response_event":
                self._of_answer(field(item, "data"), record)
            case "run_item_stream_event":
                self._item(field(item, "name"), field(item, "item"), record)
            case "agent_updated_stream_event":
                before, self._agent = self._agent, field(field(item, "new_agent"), "name")
                if before is not None:
                    record.custom("handoff", {"from": before, "to": self._agent})

    def _of_answer(self, event: Any, record: StreamRecorder) -> None:
        kind = field(event, "type")
        if kind == "response.created":
            self._answer = OpenAIResponses()
            if record.outcome == "completed":
                record.outcome = None  # belonged to the previous answer
        self._answer(event, record)
        if kind in _OVER:
            self._answer.end(record)
            record.request_end("ok" if record.outcome == "completed" else "error")

    def _item(self, name: Any, item: Any, record: StreamRecorder) -> None:
        raw = field(item, "raw_item")
        call_id = field(raw, "call_id")
        if name == "tool_called" and field(raw, "type") == "function_call":  # the provider executes other tools
            self._tools[call_id] = field(raw, "name")
            record.tool_start(field(raw, "name"), field(raw, "arguments"), tool_call_id=call_id)
        elif name == "tool_output" and call_id in self._tools:
            record.tool_end(self._tools.pop(call_id), field(item, "output"), tool_call_id=call_id)

    def end(self, record: StreamRecorder) -> None:
        """Record the usage of an incomplete answer."""
        self._answer.end(record)
