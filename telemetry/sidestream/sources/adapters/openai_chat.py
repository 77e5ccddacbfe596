"""Adapter for OpenAI's chat completions, and for the many gateways that speak them."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from functools import cache
from math import inf
from typing import TYPE_CHECKING, Any

from sidestream.events import Usage
from sidestream.recording.content import safe_str
from sidestream.recording.pricing import Cost

from .fields import field

if TYPE_CHECKING:
    from sidestream.sources.tap.recorder import StreamRecorder


class OpenAIChat:
    """Items are chunks of OpenAI's chat completions: the client's objects, or their dicts."""

    def __init__(self) -> None:
        load_price_list()  # before the stream flows; the first time takes as long as importing pydantic

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        _openai_chunk(item, record)


def _openai_chunk(item: Any, record: StreamRecorder) -> None:
    choices = field(item, "choices")
    if not record.answer:
        record.response(response_model=field(item, "model") or None, response_id=field(item, "id") or None)
    for choice in choices or ():
        index, delta = field(choice, "index"), field(choice, "delta")
        content, calls = field(delta, "content"), field(delta, "tool_calls")
        if content:
            record.text(content, index)
        for call in calls or ():
            function = field(call, "function")
            record.tool_call(
                (index, field(call, "index")),
                field(function, "arguments") or "",
                tool_name=field(function, "name"),
                tool_call_id=field(call, "id"),
            )
        if not content and not calls:  # fields that few providers have are slow to miss on the client's objects
            if thought := field(delta, "reasoning_content") or field(delta, "reasoning"):
                record.thinking(thought, index)
            if refusal := field(delta, "refusal"):
                record.text(refusal, (index, "refusal"))
        if finish_reason := field(choice, "finish_reason"):
            record.response(finish_reason=finish_reason)
            record.outcome = record.outcome or "completed"
    if used := field(item, "usage"):
        _openai_usage(used, record)
    if (not choices or isinstance(item, dict)) and (error := field(item, "error")):
        record.error(safe_str(field(error, "message") or error), str(field(error, "type") or "Error"), "model")


def _openai_usage(used: Any, record: StreamRecorder) -> None:
    asked, answered = field(used, "prompt_tokens_details"), field(used, "completion_tokens_details")
    charged = field(used, "cost")  # OpenRouter's
    record.usage(
        Usage(
            input_tokens=field(used, "prompt_tokens"),
            output_tokens=field(used, "completion_tokens"),
            cache_read_tokens=field(asked, "cached_tokens") or None,
            input_audio_tokens=field(asked, "audio_tokens") or None,
            reasoning_tokens=field(answered, "reasoning_tokens") or None,
            output_audio_tokens=field(answered, "audio_tokens") or None,
        ),
        Cost(Decimal(str(charged)), "provider") if type(charged) in (int, float) and 0 <= charged < inf else None,
    )


@cache
def load_price_list() -> None:
    """Have genai-prices' list ready, so that no stream has to wait for it."""
    from genai_prices import Usage as Counts
    from genai_prices import calc_price

    with suppress(LookupError):
        calc_price(Counts(input_tokens=1), "gpt-5")
