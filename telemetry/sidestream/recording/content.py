"""Content policies: restrict the texts of people and models in an event to what an exporter may see.

`apply_policy()` runs in the worker threads, and removes, truncates or redacts the content of an event.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec

from sidestream.errors import ConfigurationError
from sidestream.events import Error, Json, LLMChunk, LLMEnd, Payload, StreamEvent

from .snapshot import TOO_DEEP, snapshot

Redactor: TypeAlias = Callable[[str], str]
"""Function of the user: takes a text, returns its exportable form."""

REDACTION_FAILED = "[redaction failed]"
UNKNOWN_TOOL = "unknown_tool"
"""Replacement for a tool name invented by the model, if content is not exported."""


@dataclass(frozen=True, slots=True)
class ContentPolicy:
    """Amount of content visible to an exporter: `none`, `metadata` (type and length), `truncated(n)`, `full`."""

    mode: Literal["none", "metadata", "truncated", "full"]
    limit: int = 0
    """Maximum number of characters of each text, for `truncated`."""

    @classmethod
    def parse(cls, value: str | ContentPolicy) -> ContentPolicy:
        """Parse `value`. Raises `ConfigurationError` if there is no such policy."""
        if isinstance(value, ContentPolicy):
            return value
        match = re.fullmatch(r"(none|metadata|full)|truncated[(:](\d+)\)?", value.strip().lower())
        if match is None:
            raise ConfigurationError(f"content policy {value!r}: choose none, metadata, truncated(N) or full")
        if match[2] is not None:
            return cls("truncated", int(match[2]))
        return cls(match[1])  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"truncated({self.limit})" if self.mode == "truncated" else self.mode


NONE = ContentPolicy("none")
FULL = ContentPolicy("full")


def apply_policy(event: StreamEvent, policy: ContentPolicy, redact: Redactor | None) -> StreamEvent:
    """Redact and truncate the content of `event` according to `policy`. Returns the same object if nothing changes."""
    if policy.mode == "full" and redact is None:
        return event
    data: Payload = event.data
    changed = _payload(data, policy, redact)
    return event if changed is data else msgspec.structs.replace(event, data=changed)


def _payload(data: Payload, policy: ContentPolicy, redact: Redactor | None) -> Payload:
    changes: dict[str, Any] = {}
    shows_none = policy.mode == "none"
    for name in data.content_fields:
        value = getattr(data, name)
        if value is not None:
            shown = None if shows_none else _show(value, policy, redact)
            if shown is not value:
                changes[name] = shown
    if getattr(data, "invented", None):
        changes["tool_name"] = _show_name(data["tool_name"], policy, redact)
    if changes and type(data) is LLMChunk and "text" in changes:
        # The pieces do not add up to the changed text.
        changes["lengths"] = None
    if type(data) is Error and data.chain:
        changes["chain"] = [_payload(raised, policy, redact) for raised in data.chain]
    if type(data) is LLMEnd and data.failed_attempts:
        changes["failed_attempts"] = [_payload(attempt, policy, redact) for attempt in data.failed_attempts]
    return msgspec.structs.replace(data, **changes) if changes else data


def _show_name(name: str, policy: ContentPolicy, redact: Redactor | None) -> str:
    """Exportable form of a tool name invented by the model. Names of the application's tools are not content."""
    if policy.mode in ("none", "metadata"):
        return UNKNOWN_TOOL
    shown = _show(name, policy, redact)
    return shown if isinstance(shown, str) else UNKNOWN_TOOL


def _show(value: Json, policy: ContentPolicy, redact: Redactor | None) -> Json:
    if policy.mode == "none":
        return None
    if policy.mode == "metadata":
        return {
            "type": type(value).__name__,
            **({"length": len(value)} if isinstance(value, str | list | tuple | dict) else {}),
        }
    try:
        if redact is not None:
            value = _redacted(value, redact)
        return _truncated(value, policy.limit) if policy.mode == "truncated" else value
    except RecursionError:  # only events made by the caller; snapshots are bounded
        return TOO_DEEP


def _redacted(value: Json, redact: Redactor) -> Json:
    if isinstance(value, str):
        try:
            shown: object = redact(value)
        except Exception:
            return REDACTION_FAILED
        if not isinstance(shown, str):
            return REDACTION_FAILED
        return value if shown == value else shown
    if isinstance(value, list | tuple):
        return [_redacted(item, redact) for item in value]
    if isinstance(value, dict):
        return {_redacted(key, redact): _redacted(item, redact) for key, item in value.items()}
    if value is None or isinstance(value, int | float):
        return value
    return _redacted(snapshot(value), redact)


def _truncated(value: Json, limit: int) -> Json:
    if isinstance(value, str):
        return value if len(value) <= limit else f"{value[:limit]}… (+{len(value) - limit} characters)"
    if isinstance(value, list | tuple):
        return [_truncated(item, limit) for item in value]
    if isinstance(value, dict):
        return {key: _truncated(item, limit) for key, item in value.items()}
    if value is None or isinstance(value, int | float):
        return value
    return _truncated(snapshot(value), limit)
