"""Fields of a provider's items, be they the client's objects or dicts."""

from __future__ import annotations

from typing import Any


def field(value: Any, name: str) -> Any:
    """The field `name` of an object or a dict; None where it is missing."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)
