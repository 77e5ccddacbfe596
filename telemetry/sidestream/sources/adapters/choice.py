"""Choice of an adapter from the items of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sidestream.recording.snapshot import snapshot
from sidestream.sources.tap.recorder import StreamRecorder

from .json import name_of
from .protocol import Adapter

MAX_NAMES = 100
"""Maximum number of kinds of unrecognized items with separate counts."""


class ByItem:
    """Reads a stream with the first adapter of `adapters` that recognizes an item.

    Unrecognized items are counted by kind: the first of each kind is recorded as a `custom` event, and the counts as
    one `custom` event at the end.

    Args:
        adapters: Classes of adapters; candidates have a static method `recognizes(item)`.
    """

    def __init__(self, adapters: Iterable[Callable[..., Any]]) -> None:
        self._adapters = [adapter for adapter in adapters if hasattr(adapter, "recognizes")]
        self._chosen: Adapter | None = None
        self._unknown: dict[str, int] = {}
        self._first: tuple[Any, Any] | None = None
        """First item and its snapshot, if unrecognized: the next item may determine the adapter for both."""

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        if self._chosen is None:
            chosen: Any = next((each for each in self._adapters if each.recognizes(item)), None)
            if chosen is None:
                self._unknown_item(item, record)
                return
            self._chosen = chosen()
            if self._first is not None:
                self._chosen(self._first[0], record)  # an item without content in the chosen adapter's format
                self._first = None
        self._chosen(item, record)

    def _unknown_item(self, item: Any, record: StreamRecorder) -> None:
        if self._first is None and not self._unknown:
            self._first = item, snapshot(item)  # a snapshot, because the stream may reuse the object
            return
        self._record_first(record)
        self._count(name_of(item), item, record)

    def _record_first(self, record: StreamRecorder) -> None:
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
        """Record the held item, and the counts of unrecognized kinds with more than one item."""
        self._record_first(record)
        if any(count > 1 for count in self._unknown.values()):
            record.custom("unknown_items", self._unknown)
        if (end := getattr(self._chosen, "end", None)) is not None:
            end(record)
