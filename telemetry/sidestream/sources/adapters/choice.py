"""Choice of an adapter by a stream's items."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sidestream.sources.tap.recorder import StreamRecorder

from .json import name_of
from .protocol import Adapter

MAX_NAMES = 100
"""Kinds of items that nobody knows which are counted apart."""


class ByItem:
    """Reads a stream with the first of `adapters` that recognizes one of its items.

    Until then, items are counted by kind: the first of a kind is a `custom` event, and the counts are one at the end.

    Args:
        adapters: Classes of adapters; one that has a static method `recognizes(item)` can be chosen.
    """

    def __init__(self, adapters: Iterable[Callable[..., Any]]) -> None:
        self._adapters = [adapter for adapter in adapters if hasattr(adapter, "recognizes")]
        self._chosen: Adapter | None = None
        self._unknown: dict[str, int] = {}

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        if self._chosen is None:
            chosen: Any = next((each for each in self._adapters if each.recognizes(item)), None)
            if chosen is None:
                self._count(item, record)
                return
            self._chosen = chosen()
        self._chosen(item, record)

    def _count(self, item: Any, record: StreamRecorder) -> None:
        name = name_of(item)
        if name not in self._unknown and len(self._unknown) >= MAX_NAMES:
            name = "other"
        count = self._unknown[name] = self._unknown.get(name, 0) + 1
        if count == 1:
            record.custom(name, item)

    def end(self, record: StreamRecorder) -> None:
        """Tell how many items there were of each kind, where they are more than have been told."""
        if any(count > 1 for count in self._unknown.values()):
            record.custom("unknown_items", self._unknown)
        if (end := getattr(self._chosen, "end", None)) is not None:
            end(record)
