"""Facts of a request, extracted from the arguments of an SDK call: model, prompt, instructions, settings and tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from sidestream.sources.adapters.fields import field

from .calls import RequestFacts, settings_of, stop_sequences_of, text_of


def ask_chat(body: Mapping[str, Any], provider: str | None) -> RequestFacts:
    """Request in the format of OpenAI's chat completions, shared by many providers."""
    messages = _sequence(body.get("messages"))
    system = [each for each in messages if field(each, "role") in ("system", "developer")]
    return RequestFacts(
        model=str(body.get("model") or "unknown"),
        provider=provider,
        prompt=text_of(field(messages[-1], "content")) if messages else None,
        instructions=_joined(text_of(field(each, "content")) for each in system),
        messages=len(messages),
        settings=settings_of(body),
        stop_sequences=stop_sequences_of(body),
        tools=_tools(body.get("tools")),
    )


def ask_response(body: Mapping[str, Any], provider: str | None) -> RequestFacts:
    """Request of OpenAI's Responses API."""
    given = body.get("input")
    items = [given] if isinstance(given, str) else _sequence(given)
    last = items[-1] if items else None
    system = [each for each in items if field(each, "role") in ("system", "developer")]
    return RequestFacts(
        model=str(body.get("model") or "unknown"),
        provider=provider,
        prompt=last if isinstance(last, str) else text_of(field(last, "content")) or last,
        instructions=_joined([body.get("instructions"), *(text_of(field(each, "content")) for each in system)]),
        messages=len(items),
        settings=settings_of(body),
        tools=_tools(body.get("tools")),
    )


def ask_message(body: Mapping[str, Any], provider: str | None) -> RequestFacts:
    """Request of Anthropic's Messages API."""
    return ask_chat(body, provider)._replace(instructions=text_of(body.get("system")))


def ask_content(model: Any, contents: Any, config: Any, provider: str | None) -> RequestFacts:
    """Request of Gemini's `generate_content`."""
    items = _sequence(contents) if isinstance(contents, list | tuple) else [contents]
    last = items[-1] if items else None
    parts = field(last, "parts")
    declared = [
        declaration
        for tool in _sequence(field(config, "tools"))
        for declaration in _sequence(field(tool, "function_declarations"))
    ]
    known = config if isinstance(config, Mapping) else getattr(config, "__dict__", None) or {}
    return RequestFacts(
        model=str(model or "unknown").removeprefix("models/"),
        provider=provider,
        prompt=last if parts is None else text_of(parts),
        instructions=text_of(_parts(field(config, "system_instruction"))),
        messages=len(items),
        settings=settings_of(known),
        stop_sequences=stop_sequences_of(known),
        tools=_tools(declared),
    )


def ask_input(body: Mapping[str, Any], provider: str | None) -> RequestFacts:
    """Request for embeddings (`input`) or images (`prompt`)."""
    prompt = body.get("input", body.get("prompt"))
    return RequestFacts(model=str(body.get("model") or "unknown"), provider=provider, prompt=prompt)


def _parts(value: Any) -> Any:
    parts = field(value, "parts") if not isinstance(value, str | list) else None
    return value if parts is None else parts


def _sequence(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _joined(texts: Iterable[Any]) -> Any:
    found = [text for text in texts if text]
    return "\n\n".join(found) if all(isinstance(text, str) for text in found) and found else found or None


def _tools(tools: Any) -> tuple[str, ...] | None:
    names = (field(each, "name") or field(field(each, "function"), "name") for each in _sequence(tools))
    return tuple(name for name in names if isinstance(name, str)) or None


@lru_cache(maxsize=256)
def provider_at(url: str) -> str | None:
    """Name in genai-prices of the provider whose API is at `url`; None if unknown."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider(None, None, url).id
    except LookupError:
        return None
