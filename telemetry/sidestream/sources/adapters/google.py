"""Adapter for Google's Gemini API."""

from __future__ import annotations

import json
from typing import Any

from sidestream.sources.tap.recorder import StreamRecorder

from .fields import UsageSoFar, field, plain, word
from .prices import load_price_list


class Google:
    """Items are responses of Gemini's `generate_content_stream`: objects of the client, or dicts of the API."""

    def __init__(self) -> None:
        load_price_list()
        required = ("promptTokenCount", "candidatesTokenCount")
        self._usage = UsageSoFar("google", "usageMetadata", required=required)
        self._calls = 0
        self._code_runs = 0

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is a response of Gemini."""
        has_model = field(item, "model_version", "modelVersion") is not None
        return isinstance(field(item, "candidates"), list) and has_model

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        if not record.answer:
            record.provider_is("google")
            model = field(item, "model_version", "modelVersion")
            record.response(response_model=model, response_id=field(item, "response_id", "responseId"))
            record.answer_begins()
        self._usage.keep(field(item, "usage_metadata", "usageMetadata"))
        for candidate in field(item, "candidates") or ():
            index = field(candidate, "index") or 0
            for part in field(field(candidate, "content"), "parts") or ():
                self._part(index, part, record)
            if reason := word(field(candidate, "finish_reason", "finishReason")):
                if reason == "STOP" and self._calls:
                    record.response(raw_finish_reason=reason)
                    reason = "tool_call"
                record.answer_complete(reason)
        if field(field(item, "prompt_feedback", "promptFeedback"), "block_reason", "blockReason") is not None:
            record.answer_complete("content_filter")

    def _part(self, index: Any, part: Any, record: StreamRecorder) -> None:
        if text := field(part, "text"):
            if field(part, "thought"):
                record.thinking(text, index)
            else:
                record.text(text, index)
        if (call := field(part, "function_call", "functionCall")) is not None:
            self._calls += 1
            args = json.dumps(plain(field(call, "args") or {}))
            name, id = field(call, "name"), field(call, "id")
            record.tool_call((index, self._calls), args, tool_name=name, tool_call_id=id)
        if (code := field(part, "executable_code", "executableCode")) is not None:
            self._code_runs += 1
            record.tool_start("code_execution", plain(code), tool_call_id=f"code-{self._code_runs}")
        if (result := field(part, "code_execution_result", "codeExecutionResult")) is not None:
            outcome = getattr(field(result, "outcome"), "value", field(result, "outcome"))
            record.tool_end(
                "code_execution",
                field(result, "output"),
                tool_call_id=f"code-{self._code_runs}",
                outcome="ok" if outcome in (None, "OUTCOME_OK") else "failed",
            )
        if (data := field(part, "inline_data", "inlineData")) is not None:
            media_type = field(data, "mime_type", "mimeType")
            record.piece("other", (index, "media"), "", {"part_kind": media_type or "media"})

    def end(self, record: StreamRecorder) -> None:
        """Record the usage."""
        self._usage.report(record)
