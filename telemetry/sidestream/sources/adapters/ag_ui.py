"""Adapter for the AG-UI protocol between an agent and its front end."""

from __future__ import annotations

from typing import Any

from sidestream.recording.snapshot import safe_str
from sidestream.sources.tap.recorder import StreamRecorder

from .fields import field, plain, word


class AgUi:
    """Items are AG-UI events: objects of `ag-ui-protocol`, or their dicts in wire format.

    The protocol contains no model, no usage, and no start time of tools. A request therefore starts with the run or
    after the results of tools, and tool calls have no duration.
    """

    def __init__(self) -> None:
        self._tools: dict[str, str] = {}
        """Tool names by tool call id."""

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is the first event of a run, which has the ids of thread and run."""
        return word(field(item, "type")) == "RUN_STARTED" and field(item, "thread_id", "threadId") is not None

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        call_id, delta = field(item, "tool_call_id", "toolCallId"), field(item, "delta")
        match word(field(item, "type")):
            case "TEXT_MESSAGE_CONTENT" | "TEXT_MESSAGE_CHUNK" if delta:
                record.text(delta, field(item, "message_id", "messageId"))
            case "REASONING_MESSAGE_CONTENT" | "REASONING_MESSAGE_CHUNK" | "THINKING_TEXT_MESSAGE_CONTENT" if delta:
                record.thinking(delta, field(item, "message_id", "messageId"))
            case "TOOL_CALL_START" | "TOOL_CALL_CHUNK":
                if name := field(item, "tool_call_name", "toolCallName"):
                    self._tools[call_id] = name
                record.tool_call(call_id, delta or "", tool_name=self._tools.get(call_id), tool_call_id=call_id)
            case "TOOL_CALL_ARGS":
                record.tool_call(call_id, delta or "")
            case "TOOL_CALL_RESULT":
                record.request_end()  # the answer with the tool call is complete
                record.tool_end(self._tools.get(call_id, "unknown"), field(item, "content"), tool_call_id=call_id)
            case "RUN_STARTED":
                record.promise_end()
            case "RUN_FINISHED":
                record.request_end()
                if (result := field(item, "result")) is not None:
                    record.final_result(plain(result))
                record.outcome = record.outcome or "completed"
            case "RUN_ERROR":
                record.error(safe_str(field(item, "message")), str(field(item, "code") or "Error"))
            case "CUSTOM":
                record.custom(safe_str(field(item, "name")), plain(field(item, "value")))
