"""Adapter for items of any kind."""

from __future__ import annotations

from typing import Any

from sidestream.sources.tap.recorder import StreamRecorder


def any_json(item: Any, record: StreamRecorder) -> None:
    """Items are any values: each is recorded as a `custom` event, named by `name_of`."""
    record.custom(name_of(item), item)


def name_of(item: Any) -> str:
    """Name of an unknown item: `type`, `event`, `kind` or `name` of a dict, else the class name."""
    names = (item.get(key) for key in ("type", "event", "kind", "name")) if isinstance(item, dict) else ()
    return next((name for name in names if isinstance(name, str) and name), type(item).__name__)
