"""Exceptions as data: a kept exception object would keep its frames alive."""

from __future__ import annotations

from dataclasses import dataclass

from .snapshot import safe_str


@dataclass(frozen=True, slots=True)
class Failure:
    """Type and message of an exception, taken down when it is raised."""

    type: str
    """Qualified name; builtins bare."""
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """`error` as data, a group with the texts of its members."""
        text = safe_str(error)
        if isinstance(error, BaseExceptionGroup):
            members = (cls.of(member) for member in error.exceptions)
            text = "\n".join([text, *(f"- {member.type}: {member.message}" for member in members)])
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        return cls(name, text)
