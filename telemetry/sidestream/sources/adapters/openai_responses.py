"""Adapter for OpenAI's Responses API."""

from __future__ import annotations

from typing import Any

from sidestream.recording.snapshot import safe_str
from sidestream.sources.tap.recorder import StreamRecorder

from .fields import UsageSoFar, field, plain
from .prices import load_price_list

_RESULTS = ("output", "outputs", "results", "result", "action", "error")
"""Fields that may hold the result in an item of a provider tool."""


class OpenAIResponses:
    """Items are events of OpenAI's Responses API: objects of the client, events of its helper, or their dicts."""

    def __init__(self) -> None:
        load_price_list()
        self._usage = UsageSoFar("openai", flavor="responses", required=("input_tokens", "output_tokens"))
        self._calls = False
        """Whether the model has called a tool of the caller."""

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is an event of the Responses API."""
        kind = field(item, "type")
        return isinstance(kind, str) and kind.startswith("response.")

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        index = field(item, "output_index")
        match field(item, "type"):
            case "response.output_text.delta":
                record.text(field(item, "delta"), (index, field(item, "content_index")))
            case "response.refusal.delta":
                record.text(field(item, "delta"), (index, field(item, "content_index")))
            case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
                record.thinking(field(item, "delta"), index)
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                record.tool_call(index, field(item, "delta"))
            case "response.output_item.added":
                self._added(index, field(item, "item"), record)
            case "response.output_item.done":
                self._done(field(item, "item"), record)
            case "response.created" | "response.in_progress" | "response.queued":
                record.provider_is("openai")
                self._response(field(item, "response"), record)
                record.answer_begins()
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                self._over(field(item, "response"), record)
            case "error":
                record.error(safe_str(field(item, "message")), str(field(item, "code") or "Error"), "model")

    def _response(self, response: Any, record: StreamRecorder) -> None:
        record.response(
            response_model=field(response, "model"),
            response_id=field(response, "id"),
            service_tier=field(response, "service_tier"),
        )
        self._usage.keep(field(response, "usage"))

    def _added(self, index: Any, item: Any, record: StreamRecorder) -> None:
        kind = field(item, "type")
        if kind in ("function_call", "custom_tool_call"):
            self._calls = True
            record.tool_call(index, tool_name=field(item, "name"), tool_call_id=field(item, "call_id"))
        elif kind == "reasoning":
            record.thinking("", index)  # also if hidden, because thinking takes time
        elif _is_of_provider(kind):
            record.tool_start(_tool_name(kind, item), field(item, "arguments"), tool_call_id=field(item, "id"))

    def _done(self, item: Any, record: StreamRecorder) -> None:
        kind = field(item, "type")
        if _is_of_provider(kind):
            result = next((found for name in _RESULTS if (found := field(item, name)) is not None), None)
            failed = field(item, "status") in ("failed", "incomplete") or field(item, "error") is not None
            record.tool_end(
                _tool_name(kind, item),
                plain(result),
                tool_call_id=field(item, "id"),
                outcome="failed" if failed else "ok",
            )

    def _over(self, response: Any, record: StreamRecorder) -> None:
        self._response(response, record)
        status = field(response, "status")
        if status == "completed":
            record.answer_complete("tool_call" if self._calls else "stop")
        elif status == "incomplete":
            record.answer_complete(field(field(response, "incomplete_details"), "reason"))
        else:
            error = field(response, "error")
            record.response(finish_reason="error")
            message = safe_str(field(error, "message") or f"the response is {status}")
            record.error(message, str(field(error, "code") or "Error"), "model")

    def end(self, record: StreamRecorder) -> None:
        """Record the usage."""
        self._usage.report(record)


def _is_of_provider(kind: Any) -> bool:
    """Whether an item of this type is the call of a tool that the provider executes."""
    callers = ("function_call", "custom_tool_call", "computer_call", "local_shell_call")
    return isinstance(kind, str) and kind.endswith("_call") and kind not in callers


def _tool_name(kind: str, item: Any) -> str:
    """Name of a tool: `web_search` for a `web_search_call`; the tool's own name for an `mcp_call`."""
    return field(item, "name") or kind.removesuffix("_call")
