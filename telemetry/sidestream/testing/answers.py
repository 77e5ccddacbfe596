"""Conversion of logged responses to pydantic-ai's own objects."""

from __future__ import annotations

import re
from decimal import Decimal
from importlib import import_module
from typing import Any

import msgspec
from pydantic_ai.messages import (
    BinaryContent,
    CompactionPart,
    FilePart,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.usage import RequestUsage

from sidestream.errors import ConfigurationError
from sidestream.events import Json, LLMEnd
from sidestream.log.runs.tree import Part

from .logged_runs import LoggedRequest

_DETAILS = ("id", "provider_name", "provider_details")


def response_of(request: LoggedRequest, parts: list[Any]) -> ModelResponse:
    """Model response of a logged request, with `parts`."""
    end = request.end
    if end is None:
        return ModelResponse(parts)
    return ModelResponse(
        parts,
        usage=usage_of(end),
        model_name=end.response_model or end.model,
        provider_name=end.provider,
        provider_response_id=end.response_id,
        provider_details=details_of(end),
        finish_reason=end.finish_reason,  # type: ignore[arg-type]
    )


def details_of(end: LLMEnd) -> dict[str, Any] | None:
    """Provider details of a response; None if the log has none."""
    known = {
        "finish_reason": end.raw_finish_reason,
        "service_tier": end.service_tier,
        "downstream_provider": end.served_by,
        **(end.provider_details or {}),
    }
    return {name: value for name, value in known.items() if value is not None} or None


def usage_of(end: LLMEnd) -> RequestUsage:
    """Token usage of a response, with the cost if the provider reported one."""
    used = end.usage
    if used is None:
        return RequestUsage()
    given = {name: getattr(used, name) for name in used.__struct_fields__ if name.endswith("_tokens")}
    given["output_reasoning_tokens"] = given.pop("reasoning_tokens")
    usage = RequestUsage(details={name: int(number) for name, number in (used.details or {}).items()})
    for name, number in {**given, **(used.counts or {})}.items():
        if number is not None:
            setattr(usage, name, number)
    if end.cost_usd is not None and end.cost_source == "provider" and hasattr(usage, "cost"):
        usage.cost = Decimal(str(end.cost_usd))
    return usage


def known_of(details: dict[str, Any]) -> dict[str, Any]:
    """Constructor arguments of a part for its id and its provider's details."""
    return {name: details[name] for name in _DETAILS if name in details}


def whole_part(request: LoggedRequest, place: int, part: Part) -> Any:
    """Complete part of a response that was not streamed."""
    details = request.step.part_details.get(part.index or 0, {})
    known = known_of(details)
    match part.kind:
        case "text":
            return TextPart(_text(request, part), **known)
        case "thinking":
            return ThinkingPart(part.text or "", signature=details.get("signature"), **known)
        case "tool_call":
            args = _text(request, part)
            return tool_call(request, part, args_of(details, args), known)
    return other_part(request, part, known)


def args_of(details: dict[str, Any], text: str) -> str | dict[str, Any]:
    """Arguments of a tool call in the provider's original form, JSON text or a dict."""
    if details.get("args_type") != "object":
        return text
    args: dict[str, Any] = msgspec.json.decode(text)
    return args


def tool_call(
    request: LoggedRequest, part: Part, args: str | dict[str, Any] | None, known: dict[str, Any]
) -> ToolCallPart:
    named: dict[str, Any] = {} if part.tool_call_id is None else {"tool_call_id": part.tool_call_id}
    return ToolCallPart(part.tool_name or "", args, **named, **known)


def other_part(request: LoggedRequest, part: Part, known: dict[str, Any]) -> Any:
    """Part of another kind: a native tool's call or result, a file, or a compaction.

    Raises:
        ConfigurationError: The kind of part cannot be recreated from a log.
    """
    named: dict[str, Any] = {"tool_name": part.tool_name or "", "tool_call_id": part.tool_call_id or ""}
    match part.part_kind:
        case "builtin-tool-call":
            return NativeToolCallPart(args=_args(part.whole), **named, **known)
        case "builtin-tool-return":
            known.pop("id", None)
            return NativeToolReturnPart(content=part.whole, **named, **known)
        case "file":
            media = part.whole if isinstance(part.whole, dict) else {}
            kind = str(media.get("media_type", "application/octet-stream"))
            return FilePart(BinaryContent(b"", media_type=kind), **known)
        case "compaction":
            return CompactionPart(content=part.text, **known)
    raise ConfigurationError(
        f"{request.run.name}, request {request.number}: a part of the kind {part.part_kind!r} cannot be given again"
    )


def _args(value: Json) -> Any:
    return value if isinstance(value, str | dict) or value is None else msgspec.json.encode(value).decode()


def _text(request: LoggedRequest, part: Part) -> str:
    if part.text is None and part.deltas and any(delta.text is None for delta in part.deltas):
        raise ConfigurationError(
            f"{request.run.name}, request {request.number}: the log was written without content, so it cannot answer"
        )
    return part.text or ""


def error_of(exception_type: str | None, message: Json) -> Exception:
    """Exception with the logged type name and message, of a subclass of the original class if importable."""
    module, _, name = (exception_type or "RuntimeError").rpartition(".")
    text = message if isinstance(message, str) else "(the message is not in the log)"
    try:
        found = getattr(import_module(module or "builtins"), name)
    except Exception:  # a class that is not installed here, or is local to a function
        found = Exception
    base = found if isinstance(found, type) and issubclass(found, Exception) else Exception

    def __init__(self: Exception, text: str) -> None:
        Exception.__init__(self, text)
        status = re.search(r"status_code: (\d{3})", text)
        for attribute, value in (("message", text), ("status_code", int(status[1]) if status else None)):
            try:
                setattr(self, attribute, value)
            except AttributeError:  # a read-only property
                pass

    def __str__(self: Exception) -> str:
        return text

    made: type[Exception] = type(
        name,
        (base,),
        {"__init__": __init__, "__str__": __str__, "__module__": module or "builtins", "__qualname__": name},
    )
    return made(text)
