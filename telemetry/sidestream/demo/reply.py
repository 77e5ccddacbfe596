"""Types of the demo's model: a reply, and the script that selects replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Message: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Reply of the model: text, tool calls, or both."""

    text: str = ""
    calls: Sequence[tuple[str, dict[str, Any]]] = ()
    """Tool name and arguments of each call."""
    thinking: float = 0.6
    """Seconds before the first chunk."""
    reasoning_tokens: int = 0
    failure: Literal["status", "error", "drop"] | None = None
    """`status`: HTTP 500 instead of an answer; `error`: an error object half-way through the stream; `drop`: a closed
    connection half-way. Without streaming, each of them is an HTTP 500."""


Script: TypeAlias = Callable[[Sequence[Message]], Reply]
"""Function from the messages of a request to the reply."""
