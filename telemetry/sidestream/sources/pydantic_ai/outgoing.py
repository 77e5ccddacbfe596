"""Sent messages of a run, recorded on the caller's path: only new ones, at minimal cost.

Messages are recognised by identity, because pydantic-ai and programs pass the same objects from request to request and
from run to run. A new message is copied to one list per part, with mutable values packed.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from operator import is_
from typing import Any

from sidestream.events import Json
from sidestream.recording.sent import MAX_MESSAGES, Mark, NewMessage, Sent
from sidestream.recording.snapshot import pack

from .convert import tool_names
from .fields import FieldsByType

_PLAIN = frozenset({str, int, float, bool, type(None)})
_FIELDS = FieldsByType(but=frozenset({"timestamp", "metadata", "dynamic_ref"}))
"""Fields of each type of part, except those that are not sent to models."""
FEW = 32
"""Minimum number of messages between two searches for dead references."""


class KnownMessages:
    """Marks of messages already passed to the assembler, for the lifetime of each message."""

    __slots__ = ("_known", "_limit", "_newest", "_numbers")

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], Mark]] = {}
        """Reference and mark by the message's id, which may be reused after the message is gone."""
        self._limit = FEW
        self._numbers = itertools.count(1)
        self._newest = 0

    def mark(self, message: Any) -> Mark | None:
        """Mark of `message`; None if the message is new, or may have been forgotten by the assembler."""
        known = self._known.get(id(message))
        if known is None or known[0]() is not message:
            return None
        mark, newest = known[1], self._newest
        if newest - mark.used > MAX_MESSAGES // 2:  # the assembler may have forgotten the message
            return None
        mark.used = newest
        return mark

    def new(self, message: Any) -> NewMessage:
        """Convert a new `message` to a record, with a new mark."""
        # Inlined, because this is the caller's path, and calls would cost more than the work done here.
        self._newest = number = next(self._numbers)
        mark = Mark(number, number)
        known = self._known
        if len(known) >= self._limit:
            self._forget()
        known[id(message)] = (weakref.ref(message), mark)
        parts = []
        for part in message.parts:
            names, read = _FIELDS[type(part)]
            values: Sequence[Any] = read(part)
            if not _PLAIN.issuperset(map(type, values)):
                values = [value if type(value) in _PLAIN else pack(value) for value in values]
            parts.append((names, values))
        return NewMessage(mark, message.kind, tuple(parts))

    def _forget(self) -> None:
        """Drop dead references. Runs once the number of messages has doubled: constant cost per message."""
        for key, (reference, _) in list(self._known.items()):
            if reference() is None:
                self._known.pop(key, None)
        if len(self._known) > MAX_MESSAGES:
            self._known.clear()
        self._limit = max(FEW, 2 * len(self._known))


class Outgoing:
    """Messages and tools sent by one run, relative to its previous request."""

    __slots__ = ("_known", "_messages", "_schemas", "tool_names")

    def __init__(self, known: KnownMessages) -> None:
        self._known = known
        self._messages: list[Any] = []
        """Messages of the previous request, and its answer."""
        self._schemas: list[Any] | None = None
        """Components of the tool definitions in the previous request."""
        self.tool_names: tuple[str, ...] = ()
        """Names of the tools in the previous request."""

    def request(self, messages: Sequence[Any], parameters: Any) -> Sent:
        """Content of the request with `messages`, relative to the previous request."""
        before = self._messages
        same = len(before)
        if same > len(messages) or not all(map(is_, before, messages)):
            pairs = enumerate(zip(before, messages, strict=False))
            same = next((at for at, (one, other) in pairs if one is not other), min(same, len(messages)))
        known = self._known
        rest: list[Mark | NewMessage] = []
        for message in messages[same:]:
            rest.append(known.mark(message) or known.new(message))
        self._messages = list(messages)
        # Tool definitions are new objects in each request, but their components are identical unless changed.
        schemas: list[Any] = [parameters.output_object, *parameters.native_tools]
        for tool in parameters.function_tools:
            schemas += (tool.name, tool.parameters_json_schema, tool.description)
        for tool in parameters.output_tools:
            schemas += (tool.name, tool.parameters_json_schema, tool.description)
        earlier, self._schemas = self._schemas, schemas
        tools = schema = None
        if earlier is None or len(earlier) != len(schemas) or not all(map(is_, earlier, schemas)):
            tools, schema = pack(tool_definitions(parameters)), pack(output_schema(parameters))
            self.tool_names = tool_names(parameters)
        return Sent(same=same, rest=tuple(rest), tools=tools, output_mode=parameters.output_mode, output_schema=schema)

    def answer(self, response: Any) -> NewMessage:
        """Record of the answer, as the history will hold it."""
        self._messages.append(response)
        return self._known.new(response)


def plain_message(message: Any) -> dict[str, Json]:
    """Convert a message to the form used in the log."""
    return KnownMessages().new(message).plain()


def tool_definitions(parameters: Any) -> list[dict[str, Any]]:
    """Definitions of the tools offered to a model, as packable values."""
    functions = [("function", tool) for tool in parameters.function_tools]
    outputs = [("output", tool) for tool in parameters.output_tools]
    found: list[dict[str, Any]] = []
    for kind, tool in (*functions, *outputs):
        definition: dict[str, Any] = {"name": tool.name, "kind": kind}
        if tool.description:
            definition["description"] = tool.description
        if tool.strict is not None:
            definition["strict"] = tool.strict
        definition["parameters"] = tool.parameters_json_schema
        found.append(definition)
    for tool in parameters.native_tools:
        options = {name: value for name, value in vars(tool).items() if value is not None and name not in _SECRETS}
        found.append({"name": tool.kind, **options, "kind": "provider"})
    return found


_SECRETS = frozenset({"authorization_token", "headers"})
"""Options of provider tools that hold secrets, and are never logged."""


def output_schema(parameters: Any) -> dict[str, Any] | None:
    """Schema of a structured output that is not requested through a tool; None if there is none."""
    described = parameters.output_object
    if described is None:
        return None
    named = {"name": described.name, "description": described.description, "strict": described.strict}
    return {**{name: value for name, value in named.items() if value is not None}, "schema": described.json_schema}
