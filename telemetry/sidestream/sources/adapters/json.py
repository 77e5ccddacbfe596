"""Adapter for items of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidestream.sources.tap.recorder import StreamRecorder


def any_json(item: Any, record: StreamRecorder) -> None:
    """Items are anything: each is a `custom` event, named after its `type` (`event`, `kind`, `name`) or its class."""
    names = (item.get(key) for key in ("type", "event", "kind", "name")) if isinstance(item, dict) else ()
    record.custom(next((name for name in names if isinstance(name, str) and name), type(item).__name__), item)
