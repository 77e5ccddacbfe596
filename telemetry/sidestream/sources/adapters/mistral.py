"""Adapter for Mistral's client, whose events contain chunks in the format of OpenAI's chat completions."""

from __future__ import annotations

from typing import Any

from sidestream.sources.tap.recorder import StreamRecorder

from .fields import field
from .openai_chat import OpenAIChat


class Mistral(OpenAIChat):
    """Items are events of Mistral's `chat.stream` and `chat.stream_async`."""

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is an event of Mistral's client."""
        return isinstance(field(field(item, "data"), "choices"), list)

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        record.provider_is("mistral")
        super().__call__(field(item, "data"), record)
