"""Conversion of answers without streaming to the items of a stream, so that one adapter reads both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sidestream.sources.adapters.fields import field, plain


def chat_items(answer: Any) -> Iterator[Any]:
    """Chat completion as one chunk, in the format of the adapter `openai-chat`."""
    choices = [
        {
            "delta": field(choice, "message"),
            **{name: field(choice, name) for name in ("index", "finish_reason", "error")},
        }
        for choice in field(answer, "choices") or ()
    ]
    names = ("id", "model", "service_tier", "usage", "x_groq", "provider", "error")
    yield {"object": "chat.completion.chunk", "choices": choices, **{name: field(answer, name) for name in names}}


def mistral_items(answer: Any) -> Iterator[Any]:
    """Chat completion of Mistral as one event."""
    for chunk in chat_items(answer):
        yield {"data": chunk}


def response_items(answer: Any) -> Iterator[Any]:
    """Answer of the Responses API as the events of the adapter `openai-responses`."""
    yield {"type": "response.created", "response": answer}
    for index, item in enumerate(field(answer, "output") or ()):
        where = {"output_index": index}
        yield {"type": "response.output_item.added", "item": item, **where}
        match field(item, "type"):
            case "message":
                for number, part in enumerate(field(item, "content") or ()):
                    kind, name = ("refusal", "refusal") if field(part, "type") == "refusal" else ("output_text", "text")
                    text = field(part, name) or ""
                    yield {"type": f"response.{kind}.delta", "delta": text, "content_index": number, **where}
            case "reasoning":
                for part in (*(field(item, "summary") or ()), *(field(item, "content") or ())):
                    text = field(part, "text") or ""
                    yield {"type": "response.reasoning_summary_text.delta", "delta": text, **where}
            case "function_call":
                text = field(item, "arguments") or ""
                yield {"type": "response.function_call_arguments.delta", "delta": text, **where}
            case "custom_tool_call":
                text = field(item, "input") or ""
                yield {"type": "response.custom_tool_call_input.delta", "delta": text, **where}
        yield {"type": "response.output_item.done", "item": item, **where}
    status = field(answer, "status") or "completed"
    if status not in ("in_progress", "queued"):  # a background response has no final content yet
        yield {"type": f"response.{status}", "response": answer}


def message_items(answer: Any) -> Iterator[Any]:
    """Message of Anthropic as the events of the adapter `anthropic`."""
    yield {"type": "message_start", "message": answer}
    for index, block in enumerate(field(answer, "content") or ()):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        match field(block, "type"):
            case "text":
                delta = {"type": "text_delta", "text": field(block, "text") or ""}
            case "thinking":
                delta = {"type": "thinking_delta", "thinking": field(block, "thinking") or ""}
            case "tool_use" | "server_tool_use" | "mcp_tool_use":
                delta = {"type": "input_json_delta", "partial_json": _json(field(block, "input"))}
            case "compaction":
                delta = {"type": "compaction_delta", "content": field(block, "content")}
            case _:
                delta = {}
        if delta:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": answer, "usage": field(answer, "usage")}


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain(value or {}), default=str)


def one_item(answer: Any) -> Iterator[Any]:
    """Answer already in the form of a stream's item, such as Gemini's."""
    yield answer


class UsageAlone:
    """Adapter for answers without text (embeddings, images): records the model and the usage.

    Args:
        provider: Name in genai-prices of the provider whose format the usage has.
        flavor: API of the provider.
    """

    def __init__(self, provider: str, flavor: str) -> None:
        self._form = {"provider": provider, "flavor": flavor}

    def __call__(self, item: Any, record: Any, /) -> None:
        from sidestream.recording.usage import raw_usage

        used = plain(field(item, "usage")) or {}
        record.answer_begins()
        record.response(response_model=field(item, "model"), response_id=field(item, "id"))
        record.answer_complete("stop")
        if isinstance(used, Mapping) and (usage := raw_usage({"usage": used, "model": ""}, **self._form)) is not None:
            record.usage(usage)
