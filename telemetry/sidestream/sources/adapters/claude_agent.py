"""Adapter for the Claude Agent SDK: messages of a query, or output lines of the command-line program."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from sidestream.events import Usage
from sidestream.recording.snapshot import safe_str
from sidestream.recording.usage import raw_usage
from sidestream.sources.tap.recorder import StreamRecorder

from .anthropic import Anthropic
from .fields import field, plain
from .prices import load_price_list

_KINDS = {
    "AssistantMessage": "assistant",
    "UserMessage": "user",
    "ResultMessage": "result",
    "StreamEvent": "stream_event",
}
"""Message types of the SDK in the vocabulary of the command-line program; all others are `system`."""
_BLOCKS = {
    "TextBlock": "text",
    "ThinkingBlock": "thinking",
    "ToolUseBlock": "tool_use",
    "ToolResultBlock": "tool_result",
}
_INPUT = ("input_tokens", "cache_read_tokens", "cache_write_tokens")
_RESULT_FIELDS = ("num_turns", "duration_ms", "duration_api_ms", "total_cost_usd", "terminal_reason")
"""Fields of a result to record, with `total_cost_usd`, an estimate of the command-line program, among them."""


class ClaudeAgent:
    """Items are messages of `query()` and `receive_response()`, or dicts of `--output-format stream-json`.

    An answer of the model is one request, even if its blocks arrive as separate messages. Its tools start when the
    answer is complete, and end with their results. A whole message is sent before its output is counted, so the last
    answer gets the output tokens that the result counts beyond the other answers.
    """

    def __init__(self) -> None:
        load_price_list()
        self._id: Any = None
        """Id of the current answer; None between answers."""
        self._events: Anthropic | None = None
        """Reader of the current answer, if streamed as events."""
        self._usage: Usage | None = None
        self._earlier: list[Usage] = []
        """Usage of the answers before the current one."""
        self._calls: list[Any] = []
        """Tool calls of the current answer, which start when the answer is complete."""
        self._tools: dict[Any, str] = {}

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is a message of the SDK, or the dict of the session's start."""
        if isinstance(item, dict):
            return item.get("type") == "system" and item.get("subtype") == "init" and "session_id" in item
        return type(item).__module__.startswith("claude_agent_sdk.")

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        kind = item.get("type") if isinstance(item, dict) else _KINDS.get(type(item).__name__, "system")
        message = field(item, "message") or item
        is_below = field(item, "parent_tool_use_id") is not None
        match kind:
            case "system" if field(item, "subtype") == "init":
                record.promise_end()
            case "stream_event" if not is_below:  # events of sub-agents are skipped, because whole messages follow
                self._event(field(item, "event"), record)
            case "assistant" if self._events is not None and not is_below:
                self._note_calls(message)  # the rest was streamed as events
            case "assistant":
                self._answer(message, record)
            case "user":
                self._over(record)
                for block in _blocks(message):
                    if _kind(block) == "tool_result":
                        self._tool_over(block, record)
            case "result":
                self._result(item, record)

    # --- answers ---

    def _begin(self, message: Any, record: StreamRecorder) -> None:
        self._over(record)
        self._id = field(message, "message_id", "id")
        if record.outcome == "completed":
            record.outcome = None  # belonged to the previous answer
        record.provider_is("anthropic")
        record.response(response_model=field(message, "model"), response_id=self._id)

    def _event(self, event: Any, record: StreamRecorder) -> None:
        if field(event, "type") == "message_start":
            self._begin(field(event, "message"), record)
            self._events = Anthropic()
        if self._events is not None:
            self._events(event, record)

    def _answer(self, message: Any, record: StreamRecorder) -> None:
        id = field(message, "message_id", "id")
        if self._id is None or id is None or id != self._id:
            self._begin(message, record)
            record.start_known = False  # a whole message: the time of its first token is unknown
        for block in _blocks(message):
            match _kind(block):
                case "text":
                    record.text(field(block, "text") or "", id)
                case "thinking":
                    record.thinking(field(block, "thinking") or "", id)
                case "tool_use":
                    call_id = field(block, "id")
                    args = json.dumps(plain(field(block, "input")), default=str)
                    record.tool_call(call_id, args, tool_name=field(block, "name"), tool_call_id=call_id)
        self._note_calls(message)
        if (used := field(message, "usage")) is not None:
            self._usage = _usage(used)
        if (reason := field(message, "stop_reason")) is not None:
            record.response(finish_reason=reason)
        if (error := field(message, "error")) is not None:
            record.error(safe_str(error), safe_str(error), "model")

    def _note_calls(self, message: Any) -> None:
        self._calls += [block for block in _blocks(message) if _kind(block) == "tool_use"]

    def _over(self, record: StreamRecorder) -> None:
        if self._events is not None:
            self._events.end(record)
        elif self._id is not None:
            if "finish_reason" not in record.answer:
                record.response(finish_reason="tool_call" if self._calls else "stop")
            if self._usage is not None:
                record.usage(self._usage)
                self._earlier.append(self._usage)
        if self._id is not None:
            record.request_end("error" if record.outcome == "error" else "ok")
        self._id = self._events = self._usage = None
        calls, self._calls = self._calls, []
        for block in calls:
            name = self._tools[field(block, "id")] = field(block, "name") or "tool"
            record.tool_start(name, plain(field(block, "input")), tool_call_id=field(block, "id"))

    def _tool_over(self, block: Any, record: StreamRecorder) -> None:
        call_id = field(block, "tool_use_id")
        outcome: Any = "failed" if field(block, "is_error") is True else "ok"
        name = self._tools.pop(call_id, "tool")
        record.tool_end(name, plain(field(block, "content")), tool_call_id=call_id, outcome=outcome)

    # --- the end ---

    def _result(self, result: Any, record: StreamRecorder) -> None:
        self._count_output(_usage(field(result, "usage")))
        self._over(record)
        self._earlier.clear()
        facts = {name: value for name in _RESULT_FIELDS if (value := field(result, name)) is not None}
        record.custom("result", facts)
        if str(field(result, "terminal_reason")).startswith("aborted"):
            record.outcome = "cancelled"
        elif field(result, "is_error") is True:
            errors = field(result, "errors") or [field(result, "result") or field(result, "subtype")]
            record.error("; ".join(map(safe_str, errors)), safe_str(field(result, "subtype")), "run")
        else:
            structured = field(result, "structured_output")
            record.final_result(field(result, "result") if structured is None else plain(structured))
            record.outcome = "completed"

    def _count_output(self, total: Usage | None) -> None:
        """Add the output tokens of `total` missing in the earlier answers to the last one, if the inputs match."""
        last = self._usage
        if total is None or last is None:
            return
        answers = [*self._earlier, last]
        same = all(sum(getattr(each, name) or 0 for each in answers) == (getattr(total, name) or 0) for name in _INPUT)
        output = (total.output_tokens or 0) - sum(each.output_tokens or 0 for each in self._earlier)
        if same and output > (last.output_tokens or 0):
            self._usage = msgspec.structs.replace(last, output_tokens=output)

    def end(self, record: StreamRecorder) -> None:
        """Record the usage of an incomplete answer."""
        if self._events is not None:
            self._events.end(record)
        elif self._usage is not None:
            record.usage(self._usage)


def _usage(counts: Any) -> Usage | None:
    return None if counts is None else raw_usage({"usage": plain(counts), "model": ""}, provider="anthropic")


def _blocks(message: Any) -> list[Any]:
    content = field(message, "content")
    return content if isinstance(content, list) else []


def _kind(block: Any) -> Any:
    return block.get("type") if isinstance(block, dict) else _BLOCKS.get(type(block).__name__)
