"""Adapter for items of any kind."""

from __future__ import annotations

from typing import Any

from sidestream.sources.tap.recorder import StreamRecorder


def any_json(item: Any, record: StreamRecorder) -> None:
    """Items are anything: each is a `custom` event, named after its `type` (`event`, `kind`, `name`) or its class."""
    record.custom(name_of(item), item)


def name_of(item: Any) -> str:
    """What an unknown item is called: its `type` (`event`, `kind`, `name`) where it is a dict, or its class."""
    names = (item.get(key) for key in ("type", "event", "kind", "name")) if isinstance(item, dict) else ()
    return next((name for name in names if isinstance(name, str) and name), type(item).__name__)
