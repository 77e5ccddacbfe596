"""Adapters by name: those that are built in, those that are installed, and the choice by a stream's items.

A third party's adapter is a function (or class) named under the entry-point group `sidestream.adapters`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from sidestream.errors import ConfigurationError
from sidestream.sources.tap.recorder import StreamRecorder

from .events import Events
from .json import any_json, name_of
from .openai_chat import OpenAIChat
from .protocol import Adapter
from .text import Text

ENTRY_POINT_GROUP = "sidestream.adapters"
MAX_NAMES = 100
"""Kinds of items that nobody knows which are counted apart."""

BUILT_IN: dict[str, Callable[..., Any]] = {
    "events": Events,
    "json": any_json,
    "openai-chat": OpenAIChat,
    "text": Text,
}


class ByItem:
    """Reads a stream with the first built-in adapter that recognizes one of its items.

    Until then, items are counted by kind: the first of a kind is a `custom` event, and the counts are one at the end.
    """

    def __init__(self) -> None:
        self._chosen: Adapter | None = None
        self._unknown: dict[str, int] = {}

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        if self._chosen is None:
            self._chosen = _recognizing(item)
            if self._chosen is None:
                self._count(item, record)
                return
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


def _recognizing(item: Any) -> Adapter | None:
    for adapter in BUILT_IN.values():
        recognizes = getattr(adapter, "recognizes", None)
        if recognizes is not None and recognizes(item):
            return _made(adapter)
    return None


# --- look-up by name -----------------------------------------------------------------------------------------------


def available_adapters() -> list[str]:
    """Names of the adapters that are built in or installed, sorted."""
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))})


def adapter_of(choice: str | Adapter | type[Adapter] | None) -> Adapter:
    """The adapter meant by `choice`: a name, an adapter itself, or None to choose by the items.

    Raises `ConfigurationError` where there is none of that name, or it cannot be called.
    """
    if choice is None:
        return ByItem()
    if not isinstance(choice, str):
        if not callable(choice):
            raise ConfigurationError(f"adapter={choice!r}: give a name, or a function (item, record)")
        return _made(choice)
    if choice in BUILT_IN:
        return _made(BUILT_IN[choice])
    entry = next((entry for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.name == choice), None)
    if entry is None:
        installed = ", ".join(available_adapters())
        raise ConfigurationError(f"adapter={choice!r}: there is no such adapter; there are: {installed}")
    try:
        return _made(entry.load())
    except ImportError as error:
        raise ConfigurationError(f"adapter={choice!r}: it is installed but does not import: {error}") from error


def _made(adapter: Callable[..., Any]) -> Adapter:
    made: Adapter = adapter() if isinstance(adapter, type) else adapter
    return made
