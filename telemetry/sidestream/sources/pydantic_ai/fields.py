"""Fast access to the fields of pydantic-ai's dataclasses on the caller's path.

Avoids `vars(…)` and `__dict__`: CPython stores attributes in an array until the dict is first requested, and every
later attribute access on the object is slower. pydantic-ai reads each message of the history for each request, so in a
tool-heavy run the slowdown exceeded the whole cost of recording.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

KINDS = 256
"""Maximum number of types to cache: pydantic-ai has about forty, and programs may define more."""


class Fields(NamedTuple):
    """Names of selected fields of a dataclass, and a function that reads them all from an instance."""

    names: tuple[str, ...]
    read: Callable[[Any], tuple[Any, ...]]


def _fields_of(kind: type, but: frozenset[str]) -> Fields:
    """Fields of the dataclass `kind` except those in `but`."""
    names = tuple(field.name for field in dataclasses.fields(kind) if field.name not in but)
    at_once = attrgetter(*names) if len(names) > 1 else None  # with a single name, attrgetter returns no tuple

    def read(value: Any) -> tuple[Any, ...]:
        try:
            if at_once is not None:
                return at_once(value)
        except AttributeError:  # a field without a value
            pass
        return tuple(getattr(value, name, None) for name in names)

    return Fields(names, read)


fields_of: Callable[[type, frozenset[str]], Fields] = lru_cache(KINDS)(_fields_of)


def rebuilt(kind: type, fields: dict[str, Any]) -> Any:
    """Make an instance of `kind` with `fields`, without calling its constructor."""
    made: Any = object.__new__(kind)
    made.__dict__.update(fields)
    return made
