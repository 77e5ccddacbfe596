"""Adapters by name: those that are built in, those that are installed, and the choice by a stream's first item.

A third party's adapter is a function (or class) named under the entry-point group `sidestream.adapters`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from sidestream.errors import ConfigurationError
from sidestream.events import StreamEvent

from .events import Events
from .fields import field
from .json import any_json
from .openai_chat import OpenAIChat
from .protocol import Adapter
from .text import text

if TYPE_CHECKING:
    from sidestream.sources.tap.recorder import StreamRecorder

ENTRY_POINT_GROUP = "sidestream.adapters"

BUILT_IN: dict[str, Callable[..., Any]] = {
    "events": Events,
    "json": any_json,
    "openai-chat": OpenAIChat,
    "text": text,
}


class ByFirstItem:
    """Chooses by the first item which of the built-in adapters reads the stream; `json` where none knows it."""

    def __init__(self) -> None:
        self._chosen: Adapter | None = None

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        if self._chosen is None:
            self._chosen = _made(BUILT_IN[_name_for(item)])
        self._chosen(item, record)


def _name_for(item: Any) -> str:
    if isinstance(item, str | bytes):
        return "text"
    if isinstance(item, StreamEvent):
        return "events"
    return "openai-chat" if field(item, "object") == "chat.completion.chunk" else "json"


# --- look-up by name -----------------------------------------------------------------------------------------------


def available_adapters() -> list[str]:
    """Names of the adapters that are built in or installed, sorted."""
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))})


def adapter_of(choice: str | Adapter | type[Adapter] | None) -> Adapter:
    """The adapter meant by `choice`: a name, an adapter itself, or None to choose by the first item.

    Raises `ConfigurationError` where there is none of that name, or it cannot be called.
    """
    if choice is None:
        return ByFirstItem()
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
