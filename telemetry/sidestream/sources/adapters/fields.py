"""Reading a provider's items: fields of the client's objects or of dicts, and the words for a finish reason."""

from __future__ import annotations

from typing import Any


def field(value: Any, name: str) -> Any:
    """The field `name` of an object or a dict; None where it is missing.

    A field that the client's models do not declare is among their extras, where a miss costs a tenth of `getattr`'s.
    """
    if isinstance(value, dict):
        return value.get(name)
    known = getattr(value, "__dict__", None)
    if known is not None:
        if name in known:
            return known[name]
        extra = getattr(value, "__pydantic_extra__", value)
        if extra is not value:
            return extra.get(name) if extra else None
    return getattr(value, name, None)


FINISH_REASONS = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "completed": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "tool_use": "tool_call",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "spii": "content_filter",
    "error": "error",
    "failed": "error",
    "malformed_function_call": "error",
}
"""The providers' words, in lower case, in the log's."""


def finish_reason(word: Any) -> str | None:
    """A provider's finish reason in the log's words, or as it is where there is no such word; None for none."""
    word = getattr(word, "value", word)
    return FINISH_REASONS.get(word.lower(), word) if isinstance(word, str) and word else None
