"""Adapter for OpenAI's chat completions, and for the many gateways that speak them."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from decimal import Decimal
from math import inf
from typing import Any

from sidestream.recording.pricing import Cost
from sidestream.recording.snapshot import safe_str
from sidestream.sources.tap.recorder import StreamRecorder

from .fields import UsageSoFar, field, fields, plain
from .prices import load_price_list


class OpenAIChat:
    """Items are chunks of OpenAI's chat completions: the client's objects, its helper's events, or their dicts."""

    def __init__(self) -> None:
        load_price_list()  # before the stream flows; the first time takes as long as importing pydantic
        self._complete: dict[Hashable, bool] = {}
        """By choice that has begun: whether its finish reason has come."""
        self._usage = UsageSoFar("openai", flavor="chat", required=("prompt_tokens", "completion_tokens"))
        self._cost: Cost | None = None
        self._calls: dict[Hashable, list[_Call]] = {}
        """By choice: its tool calls, in the order in which they began."""

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is such a chunk. Azure's first chunk has an empty list of choices and nothing else."""
        return field(item, "object") == "chat.completion.chunk" or isinstance(field(_chunk(item), "choices"), list)

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        chunk = fields(item)
        choices = chunk.get("choices")
        if choices is None:
            chunk = fields(_chunk(item))
            choices = chunk.get("choices")
        if not record.answer:
            self._first(chunk, record)
        for choice in choices or ():
            self._choice(fields(choice), record)
        if used := chunk.get("usage"):
            self._usage.keep(used)
            self._cost = _charged(used) or self._cost
        if error := chunk.get("error"):
            _error(error, record)

    def _first(self, chunk: Mapping[str, Any], record: StreamRecorder) -> None:
        if chunk.get("x_groq") is not None:
            record.provider_is("groq")
        record.response(
            response_model=chunk.get("model"),
            response_id=chunk.get("id"),
            service_tier=chunk.get("service_tier"),
            served_by=chunk.get("provider"),  # OpenRouter's word for whom it asked
        )

    def _choice(self, choice: Mapping[str, Any], record: StreamRecorder) -> None:
        index, delta, reason = choice.get("index"), fields(choice.get("delta")), choice.get("finish_reason")
        if index not in self._complete:
            self._complete[index] = False
            record.answer_begins()
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            record.thinking(thought, index)
        if content := delta.get("content"):
            if isinstance(content, str):
                record.text(content, index)
            else:
                _contents(content, index, record)
        if refusal := delta.get("refusal"):
            record.text(refusal, (index, "refusal"))
        for call in delta.get("tool_calls") or ():
            self._tool_call(index, call, record)
        if reason:
            self._complete[index] = True
            error = choice.get("error")
            if error or reason == "error":
                record.response(finish_reason="error")
                _error(error or "the answer finished with an error", record)
            elif all(self._complete.values()):
                record.answer_complete(reason)

    def end(self, record: StreamRecorder) -> None:
        """Tell what was used."""
        self._usage.report(record, self._cost)

    def _tool_call(self, choice: Hashable, call: Any, record: StreamRecorder) -> None:
        function = field(call, "function")
        name, args = field(function, "name"), field(function, "arguments") or ""
        args = args if isinstance(args, str) else json.dumps(plain(args))
        of_choice = self._calls.setdefault(choice, [])
        found = _find(of_choice, field(call, "index"), field(call, "id"), name, args)
        found.has_args = found.has_args or bool(args)
        record.tool_call((choice, found.number), args, tool_name=name, tool_call_id=found.id)


class _Call:
    """A tool call that is being written."""

    __slots__ = ("has_args", "id", "index", "name", "number")

    def __init__(self, number: int, index: int | None, id: str | None, name: str | None) -> None:
        self.number, self.index, self.id, self.name = number, index, id, name
        self.has_args = False


def _find(calls: list[_Call], index: int | None, id: str | None, name: str | None, args: str) -> _Call:
    """The call that a piece belongs to: the last one of its index (where it has one), unless it begins another.

    Some gateways give every call the index 0, or none; then another id, or another name, begins another call. Some
    repeat id and name with each piece.
    """
    last = next((call for call in reversed(calls) if index is None or call.index == index), None)
    if last is not None and id:
        same = last.id in (None, "", id)
    elif last is not None and name:
        same = name == last.name and index is not None and not (last.has_args and args.lstrip().startswith("{"))
    else:
        same = last is not None
    if last is None or not same:
        last = _Call(len(calls), index, id, name)
        calls.append(last)
    return last


def _contents(contents: Any, index: Any, record: StreamRecorder) -> None:
    """Content in parts of their own types, as Mistral's models that think give it."""
    for part in contents:
        if thinking := field(part, "thinking"):
            record.thinking("".join(field(each, "text") or "" for each in thinking), index)
        elif text := field(part, "text"):
            record.text(text, index)


def _chunk(item: Any) -> Any:
    """The chunk itself: the client's `.stream()` helper gives it within an event of type `chunk`."""
    return field(item, "chunk") if field(item, "type") == "chunk" else item


def _error(error: Any, record: StreamRecorder) -> None:
    """An error that came within the stream, after HTTP 200."""
    if record.outcome != "error":
        code = field(error, "type") or field(error, "code")
        record.error(safe_str(field(error, "message") or error), str(code or "Error"), "model")


def _charged(used: Any) -> Cost | None:
    """What OpenRouter charged; with the caller's own key, what the provider behind it charges as well."""
    amounts = [field(used, "cost")]
    if field(used, "is_byok") is True:
        amounts.append(field(field(used, "cost_details"), "upstream_inference_cost"))
    known = [Decimal(str(amount)) for amount in amounts if type(amount) in (int, float) and 0 <= amount < inf]
    return Cost(sum(known, Decimal()), "provider") if known else None
