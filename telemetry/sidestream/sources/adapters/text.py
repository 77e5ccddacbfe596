"""Adapter for streams of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidestream.sources.tap.recorder import StreamRecorder


def text(item: Any, record: StreamRecorder) -> None:
    """Items are pieces of text: `str`, or UTF-8 bytes."""
    record.text(item)
