"""Reading a provider's items: fields of the client's objects or of dicts, and usage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sidestream.recording.pricing import Cost
from sidestream.recording.usage import raw_usage
from sidestream.sources.tap.recorder import StreamRecorder

_NONE: Mapping[str, Any] = {}


def fields(value: Any) -> Mapping[str, Any]:
    """The fields of an object of the client's, or of a dict: one call for several, on the caller's path."""
    if isinstance(value, dict):
        return value
    extra = getattr(value, "__pydantic_extra__", value)
    if extra is value:
        return _NONE if value is None else _Attributes(value)
    known: dict[str, Any] = value.__dict__
    return {**known, **extra} if extra else known


class _Attributes(Mapping[str, Any]):
    """The attributes of an object, by name."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __getitem__(self, name: str) -> Any:
        return getattr(self._value, name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(getattr(self._value, "__dict__", ()))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def field(value: Any, name: str, alias: str | None = None) -> Any:
    """The field `name` of an object or a dict, or else `alias`; None where it is missing.

    A field that the client's models do not declare is among their extras, where a miss costs a tenth of `getattr`'s.
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
    """`value`, a dict or an object of the client's, as JSON data with the names that the provider's API has.

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
    """Usage of one answer, of which a stream may say more with each item. The last that counts is read, at the end.

    Args:
        provider: genai-prices' name of the provider whose form the usage has.
        key: Where the usage stands in that provider's answers.
        flavor: The provider's API, where it has several.
        required: Counts that the form must have.
    """

    def __init__(
        self, provider: str, key: str = "usage", *, flavor: str = "default", required: tuple[str, ...]
    ) -> None:
        self._form = {"provider": provider, "flavor": flavor}
        self._key = key
        self._nothing = dict.fromkeys(required, 0)
        self._raw: Any = None

    def keep(self, raw: Any) -> None:
        """Take usage as the stream reports it; zeros are no usage, and replace no known count."""
        counts = raw if isinstance(raw, dict) else getattr(raw, "__dict__", {})
        if any(type(count) is int and count for count in counts.values()):
            self._raw = raw

    def report(self, record: StreamRecorder, cost: Cost | None = None) -> None:
        """Report the usage to `record`, if there is any, with the provider's own `cost`."""
        raw, self._raw = self._raw, None
        if raw is not None:
            usage = raw_usage({self._key: {**self._nothing, **plain(raw)}, "model": ""}, **self._form)
            if usage is not None:
                record.usage(usage, cost)


def word(value: Any) -> str | None:
    """A word of the provider's, given as text or as a member of an enumeration; None for anything else."""
    value = getattr(value, "value", value)
    return value if isinstance(value, str) else None
