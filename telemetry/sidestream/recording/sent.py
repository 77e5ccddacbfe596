"""Sent messages: recorded once, and referred to by later requests.

    request 1     [user]                             sent: user
    request 2     [user, answer 1, tool result]      history: 2 of request 1        sent: tool result
    another run   [user, answer 1, …, user]          history: 4 of request 2 there  sent: user

A message list consists of the messages of a request and its answer. The caller's path numbers each new message and
passes it on once. Messages that return as other objects (from a database) are recognised by their content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any

import msgspec

from sidestream.events import ChunkKind, History, Json, LLMChunk, LLMStart

from .snapshot import packed_text, unpack

MAX_MESSAGES = 20_000
"""Number of messages to remember, over all runs; beyond, the least recently used are forgotten."""
_USUAL = {"outcome": "success", "scope": "conversation"}
"""Default values, omitted from the log."""
_CHUNK_KINDS: dict[str, ChunkKind] = {"text": "text", "thinking": "thinking", "tool-call": "tool_call"}
UNKNOWN: dict[str, Json] = {"kind": "unknown"}
"""Placeholder for a message that was forgotten here, and not passed on again."""


class Mark(msgspec.Struct, gc=False):
    """Marker that the caller's path keeps for a message it has passed on, for the lifetime of the message."""

    number: int
    """Unique within the process. Messages with equal content share the number of the first."""
    used: int = 0
    """Newest number when the message was last sent."""


class NewMessage(msgspec.Struct, frozen=True, gc=False):
    """Message recorded by the caller's path: plain values, others packed."""

    mark: Mark
    kind: str
    parts: tuple[tuple[Sequence[str], Sequence[Any]], ...]
    """Names and values of the fields of each part."""

    def plain(self) -> dict[str, Json]:
        """Convert the message to JSON data."""
        return {"kind": self.kind, "parts": [_plain_part(*part) for part in self.parts]}

    def chunks(self, request: int) -> Iterator[LLMChunk]:
        """One chunk for each part of an answer to `request` that consists of texts, thinking and tool calls."""
        for index, (names, values) in enumerate(self.parts):
            fields = dict(zip(names, values, strict=True))
            kind = _CHUNK_KINDS[fields["part_kind"]]
            yield LLMChunk(
                request=request,
                part=index,
                kind=kind,
                tool_name=fields.get("tool_name"),
                tool_call_id=fields.get("tool_call_id"),
                text=packed_text(fields["args"] if kind == "tool_call" else fields["content"]),
            )


def _plain_part(names: Sequence[str], values: Sequence[Any]) -> dict[str, Json]:
    plain: dict[str, Json] = {"part_kind": None}
    for name, packed in zip(names, values, strict=True):
        value = unpack(packed)
        if value is not None and value != _USUAL.get(name):
            plain[name] = value
    return plain


class Sent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Content of one request, as recorded by the caller's path."""

    same: int
    """Number of leading messages equal to those of the previous request and its answer."""
    rest: tuple[Mark | NewMessage, ...]
    """Remaining messages: the mark of a known message, or a new message."""
    tools: Any = None
    """Packed tool definitions; None if unchanged."""
    output_mode: str | None = None
    output_schema: Any = None
    """Packed; present together with `tools`."""


class _MessageList:
    """Messages of a run's latest request, and its answer."""

    __slots__ = ("numbers", "request", "run_id")

    def __init__(self, run_id: str, request: int, numbers: list[int]) -> None:
        self.run_id = run_id
        self.request = request
        self.numbers = numbers


class Histories:
    """Index of the messages in the log by run and position. Fed by one thread."""

    def __init__(self, max_messages: int = MAX_MESSAGES) -> None:
        self._max = max_messages
        self._places: dict[int, tuple[_MessageList, int]] = {}
        """Latest list that holds each message, and the index within the list."""
        self._numbers: dict[tuple[int, int], int] = {}
        """Number of the first message with equal content, by hash and length of the content."""

    def number(self, message: NewMessage, plain: Json) -> int:
        """Number of the first message with the content `plain`; assigned to `message` as well."""
        try:
            encoded = msgspec.json.encode(plain)
        except Exception:  # lone surrogates
            encoded = repr(plain).encode("utf-8", "backslashreplace")
        key = (hash(encoded), len(encoded))
        first = self._numbers.get(key)
        if first is None:
            self._numbers[key] = message.mark.number
            self._forget(self._numbers)
            return message.mark.number
        message.mark.number = first
        return first

    def place(self, number: int) -> tuple[_MessageList, int] | None:
        """List and index of the message; None if the log does not hold the message."""
        return self._places.get(number)

    def put(self, listed: _MessageList, start: int) -> None:
        """Register the messages of `listed` from the index `start`."""
        places = self._places
        for index, number in enumerate(islice(listed.numbers, start, None), start):
            places.pop(number, None)  # reinserted as the most recently used
            places[number] = (listed, index)
        self._forget(places)

    def _forget(self, known: dict[Any, Any]) -> None:
        if len(known) > self._max:
            for key in list(islice(known, len(known) - self._max * 9 // 10)):
                del known[key]


class SentMessages:
    """Describes the content of each request of one run.

    Args:
        run_id: Id of the run.
        histories: Messages that the log holds.
    """

    __slots__ = ("_before", "_digest", "_histories", "_list", "_run_id")

    def __init__(self, run_id: str, histories: Histories) -> None:
        self._run_id = run_id
        self._histories = histories
        self._list = _MessageList(run_id, 0, [])
        self._before = 0
        """Number of messages of the previous request, without its answer."""
        self._digest: str | None = None

    def describe(self, start: LLMStart, sent: Sent, known: KnownContent) -> LLMStart:
        """Add the sent messages and tools to `start`."""
        same = min(sent.same, len(self._list.numbers))
        rest, written = list[int](), dict[int, dict[str, Json]]()
        for item in sent.rest:
            if isinstance(item, NewMessage):
                plain = item.plain()
                number = self._histories.number(item, plain)
                written[number] = plain
            else:
                number = item.number
            rest.append(number)
        history = [History(request=self._list.request, count=same)] if same else []
        # Always write the last message, the subject of the request, even if an equal message is in the log.
        named = self._named(rest[:-1] if rest and rest[-1] in written else rest, same)
        covered = {at for each in named for at in range(each.at or 0, (each.at or 0) + each.count)}
        history += named
        count = same + len(rest)
        new = [
            known.referring(written.get(number, UNKNOWN)) for at, number in enumerate(rest, same) if at not in covered
        ]
        rewritten, self._before = same < self._before, count
        if same < len(self._list.numbers) or not self._list.request:
            self._list = _MessageList(self._run_id, start.request, [*self._list.numbers[:same], *rest])
            self._histories.put(self._list, 0)
        else:
            self._list.request = start.request
            self._list.numbers += rest
            self._histories.put(self._list, same)
        return msgspec.structs.replace(
            start,
            messages=count,
            history=history or None,
            sent=new,
            rewritten=rewritten or None,
            **self._tools(sent),
        )

    def answered(self, message: NewMessage) -> list[dict[str, Json]] | None:
        """Append the answer to the messages of the latest request.

        Returns details of its parts that the chunks do not carry; None if there are none.
        """
        plain = message.plain()
        self._list.numbers.append(self._histories.number(message, plain))
        self._histories.put(self._list, len(self._list.numbers) - 1)
        details = []
        for index, part in enumerate(plain["parts"]):
            further = {name: value for name, value in part.items() if name not in _IN_CHUNKS}
            if isinstance(part.get("args"), dict):
                further["args_type"] = "object"  # as opposed to text that the model wrote piece by piece
            if further:
                details.append({"part": index, **further})
        return details or None

    def _named(self, numbers: Sequence[int], offset: int) -> list[History]:
        """Ranges of `numbers` that the log holds, in order. `offset`: number of messages before `numbers`."""
        found: list[History] = []
        index = len(numbers) - 1
        while index >= 0:
            place = self._histories.place(numbers[index])
            if place is None:
                index -= 1
                continue
            listed, at = place
            count = 1
            while index - count >= 0 and at - count >= 0 and listed.numbers[at - count] == numbers[index - count]:
                count += 1
            found.append(
                History(
                    run_id=None if listed.run_id == self._run_id else listed.run_id,
                    request=listed.request,
                    start=at - count + 1 or None,
                    count=count,
                    at=offset + index - count + 1 or None,
                )
            )
            index -= count
        return found[::-1]

    def _tools(self, sent: Sent) -> dict[str, Any]:
        """Tool definitions and output schema; only their digest if unchanged."""
        if sent.tools is None:
            return {"tools_digest": self._digest, "output_mode": sent.output_mode}
        tools, schema = unpack(sent.tools), unpack(sent.output_schema)
        digest = blake2b(msgspec.json.encode([tools, schema]), digest_size=8).hexdigest() if tools or schema else None
        if digest == self._digest:
            return {"tools_digest": digest, "output_mode": sent.output_mode}
        self._digest = digest
        return {
            "tools": tools or None,
            "tools_digest": digest,
            "output_mode": sent.output_mode,
            "output_schema": schema,
        }


class KnownContent:
    """Content in other events of a run, replaced by references in the sent messages.

    `"as_in": "agent_start"` refers to the prompt, and `"as_in": "tool_end"` to the result of the call with the same id.
    """

    __slots__ = ("prompt", "results")

    def __init__(self, prompt: Json) -> None:
        self.prompt = prompt
        self.results: dict[str, Json] = {}
        """Results since the last request, by tool call id."""

    def referring(self, message: dict[str, Json]) -> dict[str, Json]:
        """Replace known content in `message` by references."""
        if message["kind"] != "request":
            return message
        return {**message, "parts": [self._part(part) for part in message["parts"]]}

    def _part(self, part: dict[str, Json]) -> dict[str, Json]:
        content = part.get("content")
        if content is None:
            return part
        match part.get("part_kind"):
            case "user-prompt" if self.prompt is not None and content == self.prompt:
                return _as_in(part, "agent_start")
            case "tool-return" if self.results.get(part.get("tool_call_id", ""), _NOTHING) == content:
                return _as_in(part, "tool_end")
        return part


_NOTHING = object()
_IN_CHUNKS = frozenset({"part_kind", "content", "args", "tool_name", "tool_call_id"})
"""Fields of an answer's part that its chunks carry."""


def _as_in(part: dict[str, Json], event_type: str) -> dict[str, Json]:
    return {**{name: value for name, value in part.items() if name != "content"}, "as_in": event_type}
