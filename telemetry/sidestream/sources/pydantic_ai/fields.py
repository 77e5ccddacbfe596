"""Fields of pydantic-ai's dataclasses, read on the caller's path.

Never by `vars(…)` or `__dict__`: CPython keeps an object's attributes in an array until somebody asks for the dict.
From then on every look at an attribute of that object is slower, and pydantic-ai looks at each message of a history
for each request: of a tool-heavy run, that came to more than all that is recorded of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

KINDS = 256
"""Types that are remembered: pydantic-ai has some forty, and a program may make its own."""


class Fields(NamedTuple):
    """Some fields of a dataclass: their names, and what reads them all from an instance."""

    names: tuple[str, ...]
    read: Callable[[Any], tuple[Any, ...]]


def _fields_of(kind: type, but: frozenset[str]) -> Fields:
    """The fields of the dataclass `kind`, without those named in `but`."""
    names = tuple(field.name for field in dataclasses.fields(kind) if field.name not in but)
    at_once = attrgetter(*names) if len(names) > 1 else None  # of one name it would give no tuple

    def read(value: Any) -> tuple[Any, ...]:
        try:
            if at_once is not None:
                return at_once(value)
        except AttributeError:  # a field that was never set
            pass
        return tuple(getattr(value, name, None) for name in names)

    return Fields(names, read)


fields_of: Callable[[type, frozenset[str]], Fields] = lru_cache(KINDS)(_fields_of)


def rebuilt(kind: type, fields: dict[str, Any]) -> Any:
    """An instance of `kind` with these fields, made without a call of its own code."""
    made: Any = object.__new__(kind)
    made.__dict__.update(fields)
    return made
