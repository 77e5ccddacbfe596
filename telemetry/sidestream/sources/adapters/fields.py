"""Access to fields and usage in a provider's items, either objects of the client or dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sidestream.recording.pricing import Cost
from sidestream.recording.usage import raw_usage
from sidestream.sources.tap.recorder import StreamRecorder

_NONE: Mapping[str, Any] = {}


def fields(value: Any) -> Mapping[str, Any]:
    """Return the fields of a client's object or a dict: one call for several fields, on the caller's path."""
    if isinstance(value, dict):
        return value
    extra = getattr(value, "__pydantic_extra__", value)
    if extra is value:
        return _NONE if value is None else _Attributes(value)
    known: dict[str, Any] = value.__dict__
    return {**known, **extra} if extra else known


class _Attributes(Mapping[str, Any]):
    """Attributes of an object as a mapping; missing ones are None."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __getitem__(self, name: str) -> Any:
        return getattr(self._value, name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(getattr(self._value, "__dict__", ()))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def field(value: Any, name: str, alias: str | None = None) -> Any:
    """Return the field `name` of an object or a dict, else the field `alias`; None if both are missing.

    Looks up undeclared fields in the pydantic extras, where a miss costs a tenth of `getattr`.
    """
    found = _field(value, name)
    return found if found is not None or alias is None else _field(value, alias)


def _field(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return value.get(name)
    known = getattr(value, "__dict__", None)
    if known is not None:
        if name in known:
            return known[name]
        extra = getattr(value, "__pydantic_extra__", value)
        if extra is not value:
            return extra.get(name) if extra else None
    return getattr(value, name, None)


def plain(value: Any) -> Any:
    """Convert a dict or an object of the client to JSON data with the field names of the provider's API.

    Fields that are None are left out.
    """
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if not isinstance(value, dict):
        value = getattr(value, "__dict__", value)
    return {k: plain(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value


class UsageSoFar:
    """Usage of one answer, possibly updated by several items. The last non-zero report is used, at the end.

    Args:
        provider: Name in genai-prices of the provider whose format the usage has.
        key: Key of the usage in the provider's answers.
        flavor: API of the provider, if there are several.
        required: Counts that the format requires.
    """

    def __init__(
        self, provider: str, key: str = "usage", *, flavor: str = "default", required: tuple[str, ...]
    ) -> None:
        self._form = {"provider": provider, "flavor": flavor}
        self._key = key
        self._nothing = dict.fromkeys(required, 0)
        self._raw: Any = None

    def keep(self, raw: Any) -> None:
        """Store usage from the stream; all-zero reports are ignored."""
        counts = raw if isinstance(raw, dict) else getattr(raw, "__dict__", {})
        if any(type(count) is int and count for count in counts.values()):
            self._raw = raw

    def report(self, record: StreamRecorder, cost: Cost | None = None) -> None:
        """Record the usage, if any, with the provider's own `cost`."""
        raw, self._raw = self._raw, None
        if raw is not None:
            usage = raw_usage({self._key: {**self._nothing, **plain(raw)}, "model": ""}, **self._form)
            if usage is not None:
                record.usage(usage, cost)


def word(value: Any) -> str | None:
    """Text of a string or a string enumeration member; None for anything else."""
    value = getattr(value, "value", value)
    return value if isinstance(value, str) else None
