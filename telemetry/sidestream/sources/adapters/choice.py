"""Choice of an adapter by a stream's items."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sidestream.recording.snapshot import snapshot
from sidestream.sources.tap.recorder import StreamRecorder

from .json import name_of
from .protocol import Adapter

MAX_NAMES = 100
"""Distinct kinds of unrecognized items that are counted apart."""


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
        self._first: tuple[Any, Any] | None = None
        """The first item and its kind, if no adapter recognizes it: the next one may decide the adapter."""

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        if self._chosen is None:
            chosen: Any = next((each for each in self._adapters if each.recognizes(item)), None)
            if chosen is None:
                self._unknown_item(item, record)
                return
            self._chosen = chosen()
            if self._first is not None:
                self._chosen(self._first[0], record)  # an item of that adapter without content
                self._first = None
        self._chosen(item, record)

    def _unknown_item(self, item: Any, record: StreamRecorder) -> None:
        if self._first is None and not self._unknown:
            self._first = item, snapshot(item)  # as it is now, should the stream use the same object again
            return
        self._tell_first(record)
        self._count(name_of(item), item, record)

    def _tell_first(self, record: StreamRecorder) -> None:
        if self._first is not None:
            (item, payload), self._first = self._first, None
            self._count(name_of(item), payload, record)

    def _count(self, name: str, item: Any, record: StreamRecorder) -> None:
        if name not in self._unknown and len(self._unknown) >= MAX_NAMES:
            name = "other"
        count = self._unknown[name] = self._unknown.get(name, 0) + 1
        if count == 1:
            record.custom(name, item)

    def end(self, record: StreamRecorder) -> None:
        """Record the held item, and the count of each unrecognized kind, where it has grown since."""
        self._tell_first(record)
        if any(count > 1 for count in self._unknown.values()):
            record.custom("unknown_items", self._unknown)
        if (end := getattr(self._chosen, "end", None)) is not None:
            end(record)
