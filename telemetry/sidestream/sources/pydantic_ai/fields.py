"""Fast access to the fields of pydantic-ai's dataclasses on the caller's path.

Avoids `vars(…)` and `__dict__`: CPython stores attributes in an array until the dict is first requested, and every
later attribute access on the object is slower. pydantic-ai reads each message of the history for each request, so in a
tool-heavy run the slowdown exceeded the whole cost of recording.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

KINDS = 256
"""Maximum number of types to cache: pydantic-ai has about forty, and programs may define more."""


class Fields(NamedTuple):
    """Names of selected fields of a dataclass, and a function that reads them all from an instance."""

    names: tuple[str, ...]
    read: Callable[[Any], tuple[Any, ...]]


class FieldsByType(dict[type, Fields]):
    """Fields of each dataclass, except those in `but`. A dict, because a lookup takes no call of a Python function."""

    def __init__(self, but: frozenset[str] = frozenset()) -> None:
        self._but = but

    def __missing__(self, kind: type) -> Fields:
        fields = _fields_of(kind, self._but)
        if len(self) < KINDS:
            self[kind] = fields
        return fields


_READ = """
def read(value):
    try:
        return ({values})
    except AttributeError:
        return one_by_one(value)
"""


def _fields_of(kind: type, but: frozenset[str]) -> Fields:
    names = tuple(field.name for field in dataclasses.fields(kind) if field.name not in but)

    def one_by_one(value: Any) -> tuple[Any, ...]:
        """Read an instance of which a field has no value."""
        return tuple(getattr(value, name, None) for name in names)

    # The source is compiled for the type, as `dataclasses` does: CPython specialises each `value.name` of a function
    # that reads one type only, and reads five times as fast as with `attrgetter`.
    namespace: dict[str, Any] = {"one_by_one": one_by_one}
    exec(_READ.format(values="".join(f"value.{name}, " for name in names)), namespace)
    return Fields(names, namespace["read"])


def rebuilt(kind: type, fields: dict[str, Any]) -> Any:
    """Make an instance of `kind` with `fields`, without calling its constructor."""
    made: Any = object.__new__(kind)
    made.__dict__.update(fields)
    return made
