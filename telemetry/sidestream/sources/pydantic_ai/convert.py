"""pydantic-ai's objects as plain values: strings and numbers that nothing can change later."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from pydantic_ai import AgentRunResultEvent

from sidestream.events import Attempt, Json, Usage, UsageSource
from sidestream.recording.pricing import Cost, Pricing
from sidestream.recording.response import ResponseFacts
from sidestream.recording.snapshot import snapshot
from sidestream.recording.usage import usage_of

from .fields import fields_of, rebuilt

GENERATED_WITHIN = 5.0
"""Seconds: a UUID7 no older than this, in a run that did not bring it along, was made up for the run."""

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
"""Settings worth a record. Not headers, bodies or stop sequences, which may hold secrets or content."""


# --- what is asked -------------------------------------------------------------------------------------------------


def model_name(model: Any) -> str | None:
    """The name of `model`; of one that falls back on others, that of the first, for it is asked first."""
    name = getattr(model, "model_name", None)
    models = getattr(model, "models", None)
    if isinstance(name, str) and name.startswith("fallback:") and models:
        return model_name(models[0])
    return name if isinstance(name, str) else None


def tool_names(parameters: Any) -> tuple[str, ...]:
    """Names of the tools, and of the tools for output, that a model is given."""
    return tuple(tool.name for tool in (*parameters.function_tools, *parameters.output_tools))


def settings(values: Mapping[str, Any] | None) -> dict[str, Json] | None:
    """The plain numbers and names among the model settings."""
    if not values:
        return None
    return {name: values[name] for name in _SETTINGS if isinstance(values.get(name), str | int | float | bool)} or None


def system_prompts(messages: Sequence[Any], run_id: str) -> str | None:
    """The system prompts that this run brought, from its first request on."""
    own = [message for message in messages if message.run_id in (run_id, None)]
    texts = [part.content for part in _parts(own) if part.part_kind == "system-prompt"]
    return "\n\n".join(text for text in texts if text) or None


def instructions(messages: Sequence[Any], system_prompts: str | None) -> str | None:
    """What the model is told to be: the system prompts of the run, and the instructions of the last message."""
    last: str | None = getattr(messages[-1], "instructions", None) if messages else None
    return f"{system_prompts}\n\n{last}" if system_prompts and last else system_prompts or last or None


def retries(messages: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Why the model is asked again, from the message that asks it: the fields of `Retry` for each reason.

    That message is the one place with the reason in every mode, for tools, outputs and unknown tools alike.
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
    """`value` if the application gave the conversation's id, None if pydantic-ai made the id up for this run.

    It is known if the history brought it, or if it does not look like a UUID7 made just now.
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
    """The run's result, where `event` is the last one of `run_stream_events()`; else None."""
    return event.result if isinstance(event, AgentRunResultEvent) else None


# --- what is answered ----------------------------------------------------------------------------------------------


def usage(value: Any) -> Usage | None:
    """A `RequestUsage` or `RunUsage`; None where the provider gave no numbers at all."""
    return None if value is None else usage_of(vars(value), value.details)


_DETAILS = (
    *("batch", "processing", "background", "status", "phase", "route", "traffic_type", "requests"),
    *("moderation", "safety_ratings", "content_filters", "content_filter_result", "block_reason"),
    *("container_id", "conversation_id", "server_tool_use"),
)
"""Of a provider's details, those that are no content and no secret."""


_COPIED_APART = frozenset({"parts", "metadata", "usage", "provider_details"})
_NONE = frozenset[str]()
_PLAIN = frozenset({str, int, float, bool, type(None)})


class ResponseCopy:
    """A `ModelResponse` as it was, without its parts: taken apart on the caller's path, put together off it."""

    __slots__ = ("_details", "_kind", "_usage", "_usage_details", "_usage_kind", "_values")

    def __init__(self, response: Any) -> None:
        self._kind = kind = type(response)
        self._values = fields_of(kind, _COPIED_APART).read(response)
        usage = response.usage
        self._usage_kind = kind = type(usage)
        self._usage = fields_of(kind, _NONE).read(usage)
        self._usage_details = dict(usage.details or ())
        details = response.provider_details
        self._details = details and dict(details)

    def response(self) -> Any:
        """The response."""
        names = fields_of(self._usage_kind, _NONE).names
        usage = rebuilt(
            self._usage_kind, {**dict(zip(names, self._usage, strict=True)), "details": self._usage_details}
        )
        fields = dict(zip(fields_of(self._kind, _COPIED_APART).names, self._values, strict=True))
        fields |= {"parts": (), "metadata": None, "usage": usage, "provider_details": self._details}
        return rebuilt(self._kind, fields)


def shallow_copy(response: Any) -> ResponseCopy | None:
    """`response` as it is now, without its parts; None where something within could still change."""
    details = response.provider_details
    if getattr(response, "failed_attempts", None) or (details and not _PLAIN.issuperset(map(type, details.values()))):
        return None
    return ResponseCopy(response)


def response_facts(response: Any, pricing: Pricing, *, partial: bool, asked: str | None = None) -> ResponseFacts:
    """What a `ModelResponse` to a request of the model `asked` says of it."""
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
    """Host and port that `url` leads to: neither user, password, path nor query, which may hold a secret."""
    try:
        parts = urlsplit(url or "")
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:  # no URL, or a port that is none
        return None, None
    return (parts.hostname, port) if parts.hostname else (None, None)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def attempts(values: Sequence[Any] | None, pricing: Pricing) -> list[Attempt]:
    """The models that a fallback model moved on from."""
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
