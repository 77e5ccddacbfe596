"""Snapshots: conversion of any value to plain JSON data, in bounded time and size, without calling the value's own
code.

    pack(value)      on the caller's path: C code copies values of plain types
    unpack(packed)   anywhere: JSON data of at most `MAX_ITEMS` items, `MAX_DEPTH` levels, `MAX_CHARACTERS` of text
    snapshot(value)  both steps

Values of other types (models, dataclasses, dates, media …) are converted on the path within the same bounds.
"""

from __future__ import annotations

import dataclasses
import json
import marshal
from collections import deque
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

from sidestream.events import Json

MAX_DEPTH = 100
"""Maximum nesting of lists and dicts. Most JSON readers reject a whole line beyond 250 or 1,000 levels."""
MAX_ITEMS = 20_000
"""Maximum number of items of lists and dicts in one value. Shared references count each time, as in the JSON."""
MAX_CHARACTERS = 10_000_000
"""Maximum number of characters within one list or dict. Unlimited for a plain string, which is not copied."""
SHORT = 100
"""Maximum length of a Base64 text that is not regarded as media."""
TOO_DEEP = "[nested too deep]"
TOO_LARGE = "[too large to be recorded]"
CIRCULAR = "[refers to itself]"

_TEXT = frozenset({str})
_SCALARS = frozenset({type(None), str, int, bool, float})
_AS_TEXT = (Decimal, UUID, PurePath)


class Packed(msgspec.Struct, frozen=True, gc=False):
    """Immutable packed value for `unpack`."""

    data: bytes


def snapshot(value: Any) -> Json:
    """Convert `value` to plain JSON data without shared mutable state. Never raises an `Exception`."""
    return unpack(pack(value))


def pack(value: Any) -> Any:
    """Convert `value` to an immutable form: a string or number as is, else a `Packed` or new JSON data."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict or kind is list or kind is tuple:
        if len(value) > MAX_ITEMS:
            return _Walk().walk(value, 0)
        try:
            # marshal accepts plain types only, calls no foreign code, and writes a shared reference once.
            return Packed(marshal.dumps(value))
        except ValueError:  # contains another type, or is nested too deep
            pass
    return _Walk().walk(value, 0)


def unpack(packed: Any) -> Json:
    """Convert a result of `pack` to JSON data."""
    if type(packed) is not Packed:
        return packed if type(packed) is not str or packed[:5] != "data:" else _embedded(packed) or packed
    plain = marshal.loads(packed.data)
    return plain if _fits(plain) else _Walk().walk(plain, 0)


def packed_text(packed: Any) -> str | None:
    """JSON text of a result of `pack`, complete and without bounds; a string or None is returned as is."""
    if packed is None or type(packed) is str:
        return packed
    try:
        return msgspec.json.encode(marshal.loads(packed.data) if type(packed) is Packed else packed).decode()
    except Exception:  # keys that are no strings, lone surrogates
        return json.dumps(unpack(packed))


def _fits(plain: Any) -> bool:
    """Whether `plain`, made of plain types, is valid JSON data within the bounds. Five times as fast as a walk."""
    items, characters = MAX_ITEMS, MAX_CHARACTERS
    level = [plain]
    for _ in range(MAX_DEPTH):
        below = []
        for each in level:
            items -= len(each)
            if items < 0:
                return False
            if type(each) is dict:
                if not _TEXT.issuperset(map(type, each)) or ("data" in each and _is_base64(each)):
                    return False
                each = each.values()
            for item in each:
                kind = type(item)
                if kind is str:
                    characters -= len(item)
                    if item[:5] == "data:" and _embedded(item):
                        return False
                elif kind is dict or kind is list or kind is tuple:
                    below.append(item)
                elif kind not in _SCALARS:  # bytes, sets
                    return False
        if characters < 0:
            return False
        if not below:
            return True
        level = below
    return False


class _Walk:
    """Conversion of one value, with the remaining item and character budget."""

    __slots__ = ("around", "characters", "items")

    def __init__(self) -> None:
        self.items = MAX_ITEMS
        self.characters = MAX_CHARACTERS
        self.around: set[int] = set()
        """Ids of the enclosing values, for detecting cycles."""

    def walk(self, value: Any, depth: int) -> Json:
        kind = type(value)
        if kind is str:
            if value[:5] == "data:" and (media := _embedded(value)):
                return media
            if not depth:
                return value
            self.characters -= len(value)
            return value if self.characters >= 0 else TOO_LARGE
        if kind in _SCALARS:
            return value
        if depth >= MAX_DEPTH:
            return TOO_DEEP
        if id(value) in self.around:
            return CIRCULAR
        self.around.add(id(value))
        try:
            if kind is dict:
                if "data" in value and _is_base64(value):
                    value = {**value, "data": {"kind": "base64", "bytes": len(value["data"]) * 3 // 4}}
                return self._dict(value.items(), depth)
            if kind is list or kind is tuple:
                return self._list(value, depth)
            return self._other(value, depth)
        finally:
            self.around.discard(id(value))

    def _list(self, values: Iterable[Any], depth: int) -> Json:
        taken: list[Json] = []
        for item in values:
            self.items -= 1
            if self.items < 0:
                taken.append(TOO_LARGE)
                break
            taken.append(item if type(item) in _NUMBERS else self.walk(item, depth + 1))
        return taken

    def _dict(self, items: Iterable[tuple[Any, Any]], depth: int) -> Json:
        taken: dict[str, Json] = {}
        for key, item in items:
            self.items -= 1
            if self.items < 0:
                taken[TOO_LARGE] = None
                break
            name = key if type(key) is str else self._key(key)
            taken[name] = item if type(item) in _NUMBERS else self.walk(item, depth + 1)
        return taken

    def _key(self, key: Any) -> str:
        if type(key) is tuple:
            return f"({', '.join(self._key(each) for each in key[:10])})"
        plain = self.walk(key, MAX_DEPTH - 1)
        return plain if isinstance(plain, str) else str(plain)

    def _other(self, value: Any, depth: int) -> Json:
        try:
            return self._known(value, depth)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # raised by a property or serializer of the value, in any language
            return f"<{type_name(value)} that raises {type(error).__qualname__}>"

    def _known(self, value: Any, depth: int) -> Json:
        """Convert known types by their content; others become the type's name, because `repr` is foreign code."""
        if isinstance(value, bytes | bytearray | memoryview):
            return {"kind": "bytes", "bytes": len(value)}
        if isinstance(value, Enum):
            return self.walk(value.value, depth + 1)
        if isinstance(value, datetime | date | time):
            return value.isoformat()
        if isinstance(value, timedelta):
            return value.total_seconds()
        if isinstance(value, _AS_TEXT):
            return str(value)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int | float):
            return value.real
        if isinstance(value, dict):
            return self._dict(dict.items(value), depth)
        if isinstance(value, tuple) and (names := getattr(type(value), "_fields", None)):
            return self._dict(zip(names, tuple.__iter__(value), strict=False), depth)
        for collection in _COLLECTIONS:
            if isinstance(value, collection):
                return self._list(collection.__iter__(value), depth)  # bypasses overrides in subclasses
        if isinstance(value, BaseException):
            return f"{type_name(value)}: {safe_str(value)}"
        if isinstance(value, type):
            return f"<class {value.__qualname__}>"
        if (media := _media(value)) is not None:
            return media
        dump = getattr(type(value), "model_dump", None)  # a pydantic model; its fields may be excluded or renamed
        if dump is not None:
            if not _is_bounded(value, self.items):  # a dump is unbounded, because it expands shared references
                self.items = 0
                return f"<{type_name(value)}> {TOO_LARGE}"
            return self.walk(dump(value, warnings=False), depth)
        if dataclasses.is_dataclass(value):
            return self._dict(((each.name, getattr(value, each.name)) for each in dataclasses.fields(value)), depth)
        if isinstance(value, msgspec.Struct):
            return self._dict(((name, getattr(value, name)) for name in value.__struct_fields__), depth)
        if type(value).__module__.partition(".")[0] in ("pydantic", "pydantic_core"):  # a URL, a secret
            from pydantic_core import to_jsonable_python

            return self.walk(to_jsonable_python(value), depth)
        return repr(value) if isinstance(value, range | complex) else f"<{type_name(value)}>"


_NUMBERS = _SCALARS - {str}
_COLLECTIONS: tuple[Any, ...] = (list, tuple, set, frozenset, deque)


def _is_bounded(model: Any, items: int) -> bool:
    """Whether a pydantic model holds at most `items` items; shared references count each time."""
    level: list[Any] = [model]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for each in level:
            size, held = _held(each)
            items -= size
            if items < 0:
                return False
            below += [item for item in held if type(item) not in _SCALARS]
        if not below:
            return True
        level = below
    return False


def _held(value: Any) -> tuple[int, Iterable[Any]]:
    """Number and values of the items of `value` that a dump includes."""
    if isinstance(value, dict):
        return dict.__len__(value), dict.values(value)
    for collection in _COLLECTIONS:
        if isinstance(value, collection):
            return collection.__len__(value), collection.__iter__(value)
    kind = type(value)
    if hasattr(kind, "__pydantic_fields__") or hasattr(kind, "__dataclass_fields__"):
        held = [*vars(value).values(), *(getattr(value, "__pydantic_extra__", None) or {}).values()]
        return len(held), held
    return 0, ()


def _media(value: object) -> Json:
    """Kind, media type, and size or URL of media. Their bytes are never logged."""
    data, kind = getattr(value, "data", None), getattr(value, "kind", "binary")
    if isinstance(data, bytes) and isinstance(media_type := getattr(value, "media_type", None), str):
        return {"kind": kind, "media_type": media_type, "bytes": len(data)}
    if isinstance(kind, str) and kind.endswith("-url") and isinstance(url := getattr(value, "url", None), str):
        return {"kind": kind, "url": _embedded(url) or url}
    return None


def _embedded(text: str) -> Json:
    """Media type and size of a `data:` URL with Base64 content; None for other texts."""
    if text[:5] != "data:" or (comma := text.find(";base64,", 5, 200)) < 0:
        return None
    return {"kind": "data-url", "media_type": text[5:comma], "bytes": (len(text) - comma - 8) * 3 // 4}


def _is_base64(value: dict[Any, Any]) -> bool:
    """Whether `value` is media in the form of providers and MCP servers: Base64 data with a media type."""
    data = value.get("data")
    return (
        type(data) is str
        and len(data) > SHORT
        and any(type(value.get(name)) is str for name in ("media_type", "mime_type", "mimeType"))
        and data[:SHORT].isascii()
        and " " not in data[:SHORT]
    )


def type_name(value: object) -> str:
    """Qualified name of the type of `value`, without module for builtins."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def safe_str(value: object) -> str:
    """Return `str(value)`, or a placeholder with the type if `str` raises."""
    try:
        return str(value)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        return f"<{type(value).__qualname__} whose str raises {type(error).__qualname__}>"
