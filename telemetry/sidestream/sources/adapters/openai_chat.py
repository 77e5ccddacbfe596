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
    from sidestream.sources.tap.recorder import Teller


class OpenAIChat:
    """Items are chunks of OpenAI's chat completions: the client's objects, or their dicts."""

    def __init__(self) -> None:
        load_price_list()  # before the stream flows; the first time takes as long as importing pydantic

    def __call__(self, item: Any, tell: Teller, /) -> None:
        _openai_chunk(item, tell)


def _openai_chunk(item: Any, tell: Teller) -> None:
    choices = field(item, "choices")
    if not tell.answer:
        tell.response(response_model=field(item, "model") or None, response_id=field(item, "id") or None)
    for choice in choices or ():
        index, delta = field(choice, "index"), field(choice, "delta")
        content, calls = field(delta, "content"), field(delta, "tool_calls")
        if content:
            tell.text(content, index)
        for call in calls or ():
            function = field(call, "function")
            tell.tool_call(
                (index, field(call, "index")),
                field(function, "arguments") or "",
                tool_name=field(function, "name"),
                tool_call_id=field(call, "id"),
            )
        if not content and not calls:  # fields that few providers have are slow to miss on the client's objects
            if thought := field(delta, "reasoning_content") or field(delta, "reasoning"):
                tell.thinking(thought, index)
            if refusal := field(delta, "refusal"):
                tell.text(refusal, (index, "refusal"))
        if finish_reason := field(choice, "finish_reason"):
            tell.response(finish_reason=finish_reason)
            tell.outcome = tell.outcome or "completed"
    if used := field(item, "usage"):
        _openai_usage(used, tell)
    if (not choices or isinstance(item, dict)) and (error := field(item, "error")):
        tell.error(safe_str(field(error, "message") or error), str(field(error, "type") or "Error"), "model")


def _openai_usage(used: Any, tell: Teller) -> None:
    asked, answered = field(used, "prompt_tokens_details"), field(used, "completion_tokens_details")
    charged = field(used, "cost")  # OpenRouter's
    tell.usage(
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
