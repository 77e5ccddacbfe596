"""Adapter for streams of text."""

from __future__ import annotations

from typing import Any

from sidestream.sources.tap.recorder import StreamRecorder


class Text:
    """Items are pieces of text: `str`, or UTF-8 bytes."""

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is a piece of text."""
        return isinstance(item, str | bytes)

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        record.text(item)
