"""Adapter for Google's Agent Development Kit: events of a runner."""

from __future__ import annotations

from typing import Any

from sidestream.recording.snapshot import safe_str
from sidestream.sources.tap.recorder import StreamRecorder

from .fields import field, plain, word
from .google import Google


class GoogleAdk:
    """Items are events of `run_async` and `run`, or their dicts in the wire format of ADK's server.

    An answer of a model consists of optional partial events and one whole event. Its tools start after the whole event,
    and end with their responses. A hand-off to another agent is recorded as a `custom` event.
    """

    def __init__(self) -> None:
        self._answer: Google | None = None
        """Reader of the current answer; None between answers."""
        self._has_parts = False
        """Whether partial events have delivered the texts of the current answer."""
        self._agent: str | None = None
        self._tools: dict[Any, str] = {}

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is an event of ADK."""
        has_id = isinstance(field(item, "invocation_id", "invocationId"), str)
        return has_id and isinstance(field(item, "author"), str)

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        author = field(item, "author")
        if author == "user":
            return  # the prompt
        before, self._agent = self._agent, author
        if before not in (None, author):
            record.custom("handoff", {"from": before, "to": author})
        parts = field(field(item, "content"), "parts") or ()
        results = [each for part in parts if (each := field(part, "function_response", "functionResponse")) is not None]
        model = field(item, "model_version", "modelVersion")
        finish = word(field(item, "finish_reason", "finishReason"))
        used = field(item, "usage_metadata", "usageMetadata")
        is_partial = field(item, "partial") is True
        if results:
            for result in results:
                self._tool_over(result, record)
        elif is_partial or used is not None or model is not None or finish is not None:
            head = {"modelVersion": model, "usageMetadata": used}
            self._piece(parts, head, None if is_partial else finish, is_partial, record)
        elif text := "".join(text for part in parts if isinstance(text := field(part, "text"), str)):
            record.custom("message", {"agent": author, "text": text})  # by an agent without a model
        if (code := word(field(item, "error_code", "errorCode"))) is not None:
            record.error(safe_str(field(item, "error_message", "errorMessage") or code), code, "model")
            self._over("error", record)

    def _piece(self, parts: Any, head: dict[str, Any], finish: Any, is_partial: bool, record: StreamRecorder) -> None:
        if self._answer is None:
            self._answer = Google()
            self._has_parts = False
            if record.outcome == "completed":
                record.outcome = None  # belonged to the previous answer
            model = head["modelVersion"]
            record.response(response_model=model)
            record.answer_begins()
            if isinstance(model, str) and model.startswith("gemini"):  # other providers' models have prefixed names
                record.provider_is("google")
        calls = [part for part in parts if field(part, "function_call", "functionCall") is not None]
        if is_partial:
            new_parts = [part for part in parts if part not in calls]
            self._has_parts = self._has_parts or bool(new_parts)
        else:
            new_parts = calls if self._has_parts else list(parts)
            finish = finish or "STOP"
            if not self._has_parts:
                record.start_known = False  # a whole answer: the time of its first token is unknown
        self._answer({"candidates": [{"content": {"parts": new_parts}, "finishReason": finish}], **head}, record)
        if not is_partial:
            self._over("ok", record)
            for part in calls:
                self._tool_begins(field(part, "function_call", "functionCall"), record)

    def _over(self, outcome: Any, record: StreamRecorder) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.end(record)
            record.request_end(outcome)

    def _tool_begins(self, call: Any, record: StreamRecorder) -> None:
        name, call_id = field(call, "name") or "tool", field(call, "id")
        self._tools[call_id] = name
        record.tool_start(name, plain(field(call, "args")), tool_call_id=call_id)

    def _tool_over(self, result: Any, record: StreamRecorder) -> None:
        call_id, given = field(result, "id"), plain(field(result, "response"))
        name = self._tools.pop(call_id, None) or field(result, "name") or "tool"
        failed = isinstance(given, dict) and given.get("error") is not None
        record.tool_end(name, given, tool_call_id=call_id, outcome="failed" if failed else "ok")

    def end(self, record: StreamRecorder) -> None:
        """Record the usage of an incomplete answer."""
        if self._answer is not None:
            self._answer.end(record)
