"""Replies of the demo's model, and what decides them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Message: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer of the model: text, tool calls, or both."""

    text: str = ""
    calls: Sequence[tuple[str, dict[str, Any]]] = ()
    """Tool name and arguments of each call."""
    thinking: float = 0.6
    """Seconds before the first chunk."""
    reasoning_tokens: int = 0
    failure: Literal["status", "error", "drop"] | None = None
    """`status`: HTTP 500 instead of an answer; `error`: an error object half-way through the stream; `drop`: the
    connection is lost there. (Both are an HTTP 500 where nothing is streamed.)"""


Script: TypeAlias = Callable[[Sequence[Message]], Reply]
"""Decides the answer from the messages of the request."""
