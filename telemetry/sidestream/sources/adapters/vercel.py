"""Adapter for the UI message stream of Vercel's AI SDK, between an agent and its front end."""

from __future__ import annotations

import json
from typing import Any

from sidestream.recording.snapshot import safe_str
from sidestream.sources.tap.recorder import StreamRecorder

from .fields import field, plain, word

_TYPES = {"start-step", "text-start", "text-delta", "reasoning-start", "reasoning-delta", "tool-input-start"}


class Vercel:
    """Items are chunks of a UI message stream: objects, or their dicts in wire format.

    The protocol contains no model, no usage, and no start time of tools. Each step is therefore a request, and tool
    calls have no duration.
    """

    def __init__(self) -> None:
        self._tools: dict[str, str] = {}
        """Tool names by tool call id."""

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is a chunk of a UI message stream."""
        kind = word(field(item, "type"))
        return kind in _TYPES or (kind == "start" and field(item, "message_id", "messageId") is not None)

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        kind, part = word(field(item, "type")), field(item, "id")
        match kind:
            case "text-delta":
                record.text(field(item, "delta"), part)
            case "reasoning-delta":
                record.thinking(field(item, "delta"), part)
            case "start":
                record.promise_end()
            case "start-step":
                record.promise_end()
                record.request_start()
            case "finish-step":
                record.request_end()
            case "finish" | "done":
                record.request_end()
                record.outcome = record.outcome or "completed"
            case "abort":
                record.outcome = "cancelled"
            case "error":
                record.error(safe_str(field(item, "error_text", "errorText")))
            case str() if kind.startswith("tool-"):
                self._tool(kind, item, record)
            case str() if kind.startswith("data-"):
                record.custom(kind, plain(field(item, "data")))

    def _tool(self, kind: str, item: Any, record: StreamRecorder) -> None:
        call_id = field(item, "tool_call_id", "toolCallId")
        name = self._tools.get(call_id, "unknown")
        match kind:
            case "tool-input-start":
                self._tools[call_id] = name = field(item, "tool_name", "toolName")
                record.tool_call(call_id, tool_name=name, tool_call_id=call_id)
            case "tool-input-delta":
                record.tool_call(call_id, field(item, "input_text_delta", "inputTextDelta") or "")
            case "tool-input-available" if call_id not in self._tools:  # the call arrived in one piece
                self._tools[call_id] = name = field(item, "tool_name", "toolName")
                args = json.dumps(plain(field(item, "input")))
                record.tool_call(call_id, args, tool_name=name, tool_call_id=call_id)
            case "tool-output-available" if not field(item, "preliminary"):
                record.request_end()  # the answer with the tool call is complete
                record.tool_end(name, plain(field(item, "output")), tool_call_id=call_id)
            case "tool-output-error":
                record.request_end()
                record.tool_end(name, field(item, "error_text", "errorText"), tool_call_id=call_id, outcome="failed")
            case "tool-output-denied":
                record.request_end()
                record.tool_end(name, tool_call_id=call_id, outcome="denied")
