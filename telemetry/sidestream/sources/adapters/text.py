"""Adapter for streams of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidestream.sources.tap.recorder import Teller


def text(item: Any, tell: Teller) -> None:
    """Items are pieces of text: `str`, or UTF-8 bytes."""
    tell.text(item)
