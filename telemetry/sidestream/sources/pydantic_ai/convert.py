"""Conversion of pydantic-ai's objects to immutable plain values."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import msgspec
from pydantic_ai import AgentRunResultEvent

from sidestream.events import Attempt, Json, Usage, UsageSource
from sidestream.recording.pricing import Cost, Pricing
from sidestream.recording.response import ResponseFacts
from sidestream.recording.snapshot import snapshot
from sidestream.recording.usage import usage_of

from .fields import FieldsByType, rebuilt

GENERATED_WITHIN = 5.0
"""Maximum age in seconds of a UUID7 that is regarded as generated for the run, unless the history contains it."""

MAX_DESCRIPTION = 1_000
"""Maximum length of an agent's description in characters."""

_SETTINGS = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "parallel_tool_calls",
    "service_tier",
)
"""Model settings to record. Excludes headers and bodies, which may hold secrets. Stop sequences are content."""


# --- requests --------------------------------------------------------------------------------------------------------


def model_name(model: Any) -> str | None:
    """Name of `model`; for a fallback model, the name of its first model, which is requested first."""
    name = getattr(model, "model_name", None)
    if not isinstance(name, str):
        return None
    if name.startswith("fallback:") and (models := getattr(model, "models", None)):
        return model_name(models[0])
    return name


def tool_names(parameters: Any) -> tuple[str, ...]:
    """Names of the function and output tools offered to a model."""
    return tuple([tool.name for tool in (*parameters.function_tools, *parameters.output_tools)])


def settings(values: Mapping[str, Any] | None) -> dict[str, Json] | None:
    """Recordable model settings: numbers, booleans and strings."""
    if not values:
        return None
    return {name: values[name] for name in _SETTINGS if isinstance(values.get(name), str | int | float | bool)} or None


def stop_sequences(values: Mapping[str, Any] | None) -> Json:
    """Snapshot of the stop sequences among model settings; None without any."""
    given = values.get("stop_sequences") if values else None
    return snapshot(given) if given else None


def description(agent: Any) -> str | None:
    """Description of `agent`; None for a template, which is not rendered because rendering calls user code."""
    text = getattr(agent, "description", None)
    return text[:MAX_DESCRIPTION] if isinstance(text, str) and "{{" not in text else None


def system_prompts(messages: Sequence[Any], run_id: str) -> str | None:
    """System prompts of this run, as sent with its first request."""
    own = [message for message in messages if message.run_id in (run_id, None)]
    texts = [part.content for part in _parts(own) if part.part_kind == "system-prompt"]
    return "\n\n".join(text for text in texts if text) or None


def instructions(messages: Sequence[Any], system_prompts: str | None) -> str | None:
    """Instructions to the model: the system prompts of the run, and the instructions of the last message."""
    last: str | None = getattr(messages[-1], "instructions", None) if messages else None
    return f"{system_prompts}\n\n{last}" if system_prompts and last else system_prompts or last or None


def retries(messages: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Fields of a `Retry` for each reason in the message that sends the model back.

    Only this message holds the reason in every mode, for tools, outputs and unknown tools alike.
    """
    for part in _parts(messages[-1:]):
        retry = getattr(part, "retry", None)
        if retry is not None and getattr(part, "outcome", "retried") == "retried":
            yield {
                "cause": retry.cause,
                "attempt": retry.attempt,
                "max_attempts": retry.max_retries,
                "tool_name": getattr(part, "tool_name", None),
                "tool_call_id": getattr(part, "tool_call_id", None),
                "message": snapshot(part.content),
            }


def _parts(messages: Sequence[Any]) -> Iterator[Any]:
    for message in messages:
        if message.kind == "request":
            yield from message.parts


def conversation_id(value: str | None, history: Sequence[Any]) -> str | None:
    """Return `value` if the application set the conversation id; None if pydantic-ai generated the id for this run.

    An id in the history, or one that is not a UUID7 made just now, comes from the application.
    """
    if value is None or any(getattr(message, "conversation_id", None) == value for message in history):
        return value
    try:
        parsed = uuid.UUID(value)
    except ValueError:
        return value
    made_at = (parsed.int >> 80) / 1_000
    return None if parsed.version == 7 and abs(time.time() - made_at) < GENERATED_WITHIN else value


def run_result(event: Any) -> Any | None:
    """Result of the run if `event` is the last event of `run_stream_events()`; else None."""
    return event.result if isinstance(event, AgentRunResultEvent) else None


# --- responses -------------------------------------------------------------------------------------------------------


def usage(value: Any) -> Usage | None:
    """Usage in a `RequestUsage` or `RunUsage`; None if the provider reported no numbers."""
    return None if value is None else usage_of(vars(value), value.details)


_DETAILS = (
    *("batch", "processing", "background", "status", "phase", "route", "traffic_type", "requests"),
    *("moderation", "safety_ratings", "content_filters", "content_filter_result", "block_reason"),
    *("container_id", "conversation_id", "server_tool_use"),
)
"""Keys of provider details that hold neither content nor secrets."""


_RESPONSE = FieldsByType(but=frozenset({"parts", "metadata", "usage", "provider_details"}))
"""Fields of a response, except mutable ones."""
_PLAIN = frozenset({str, int, float, bool, type(None)})


class ResponseCopy(msgspec.Struct, frozen=True, gc=False):
    """Copy of a `ModelResponse` without its parts: read on the caller's path, rebuilt off the path."""

    kind: type
    values: tuple[Any, ...]
    usage_kind: type
    usage: dict[str, Any]
    details: dict[str, Any] | None

    def response(self) -> Any:
        """Rebuild the response."""
        usage = rebuilt(self.usage_kind, self.usage)
        fields = dict(zip(_RESPONSE[self.kind].names, self.values, strict=True))
        fields |= {"parts": (), "metadata": None, "usage": usage, "provider_details": self.details}
        return rebuilt(self.kind, fields)


def shallow_copy(response: Any) -> ResponseCopy | None:
    """Copy `response` without its parts; None if it holds values that may still be mutated."""
    details = response.provider_details
    if details:
        if not _PLAIN.issuperset(map(type, details.values())):
            return None
        details = dict(details)
    if getattr(response, "failed_attempts", None):
        return None
    kind, usage = type(response), response.usage
    counts = vars(usage).copy()  # pydantic-ai's own code makes this dict
    counts["details"] = dict(usage.details or ())
    return ResponseCopy(kind, _RESPONSE[kind].read(response), type(usage), counts, details)


def response_facts(response: Any, pricing: Pricing, *, partial: bool, asked: str | None = None) -> ResponseFacts:
    """Facts of a `ModelResponse` to a request for the model `asked`."""
    used = usage(response.usage)
    source: UsageSource = "none" if used is None else "partial" if partial else "provider"
    details: Mapping[str, Any] = response.provider_details or {}
    cost = pricing.cost(
        response.usage,
        model=response.model_name,
        asked=asked,
        provider=response.provider_name,
        provider_url=response.provider_url,
        details=details,
        estimate=lambda: response.cost().total_price,
    )
    reason = _text(details.get("finish_reason"))
    address, port = server_of(_text(response.provider_url))
    return ResponseFacts(
        usage=used,
        usage_source=source,
        cost=cost,
        unpriced=used is not None and used.total_tokens > 0 and cost is None,
        attempts=attempts(getattr(response, "failed_attempts", None), pricing),
        response_model=response.model_name,
        response_id=response.provider_response_id,
        provider=response.provider_name,
        finish_reason=response.finish_reason,
        raw_finish_reason=reason if reason != response.finish_reason else None,
        service_tier=_text(details.get("service_tier")),
        served_by=_text(details.get("downstream_provider")),
        server_address=address,
        server_port=port,
        provider_details={name: snapshot(details[name]) for name in _DETAILS if details.get(name) is not None} or None,
    )


@lru_cache(maxsize=256)
def server_of(url: str | None) -> tuple[str | None, int | None]:
    """Host and port of `url`, without user, password, path or query, which may hold secrets; None if invalid."""
    try:
        parts = urlsplit(url or "")
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:  # not a URL, or an invalid port
        return None, None
    return (parts.hostname, port) if parts.hostname else (None, None)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def attempts(values: Sequence[Any] | None, pricing: Pricing) -> list[Attempt]:
    """Failed attempts of a fallback model."""
    return [_attempt(value, pricing) for value in values or ()]


def _attempt(value: Any, pricing: Pricing) -> Attempt:
    cost: Cost | None = None
    if value.usage is not None:
        cost = pricing.cost(value.usage, model=value.model_name, provider=value.provider_name)
    return Attempt(
        model=value.model_name,
        provider=value.provider_name,
        outcome=value.outcome,
        error=value.error,
        duration_seconds=value.duration.total_seconds(),
        usage=usage(value.usage),
        cost_usd=None if cost is None else float(cost.usd),
    )
