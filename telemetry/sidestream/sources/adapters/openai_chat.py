"""Adapter for OpenAI's chat completions, and for compatible gateways."""

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
    """Items are chunks of OpenAI's chat completions: objects of the client, events of its helper, or their dicts."""

    def __init__(self) -> None:
        load_price_list()  # in advance, because the first use takes as long as importing pydantic
        self._complete: dict[Hashable, bool] = {}
        """Whether the finish reason has arrived, by index of each started choice."""
        self._usage = UsageSoFar("openai", flavor="chat", required=("prompt_tokens", "completion_tokens"))
        self._cost: Cost | None = None
        self._calls: dict[Hashable, list[_Call]] = {}
        """Tool calls by choice, in order of their start."""

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is a chunk. The first chunk of Azure consists of an empty list of choices."""
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
            served_by=chunk.get("provider"),  # OpenRouter's field for the upstream provider
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
        """Record the usage."""
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
    """Tool call in progress."""

    __slots__ = ("has_args", "id", "index", "name", "number")

    def __init__(self, number: int, index: int | None, id: str | None, name: str | None) -> None:
        self.number, self.index, self.id, self.name = number, index, id, name
        self.has_args = False


def _find(calls: list[_Call], index: int | None, id: str | None, name: str | None, args: str) -> _Call:
    """Find or add the call to which a piece belongs: by default the last call with the same index.

    Some gateways number every call 0, or not at all; another id or name then starts another call. Some gateways repeat
    id and name in each piece.
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
    """Record content in typed parts, the format of Mistral's thinking models."""
    for part in contents:
        if thinking := field(part, "thinking"):
            record.thinking("".join(field(each, "text") or "" for each in thinking), index)
        elif text := field(part, "text"):
            record.text(text, index)


def _chunk(item: Any) -> Any:
    """Unwrap a chunk, which the client's `.stream()` helper delivers within an event of type `chunk`."""
    return field(item, "chunk") if field(item, "type") == "chunk" else item


def _error(error: Any, record: StreamRecorder) -> None:
    """Record an error within the stream, after HTTP 200."""
    if record.outcome != "error":
        code = field(error, "type") or field(error, "code")
        record.error(safe_str(field(error, "message") or error), str(code or "Error"), "model")


def _charged(used: Any) -> Cost | None:
    """Charge reported by OpenRouter; with the caller's own key (BYOK), plus the charge of the upstream provider."""
    amounts = [field(used, "cost")]
    if field(used, "is_byok") is True:
        amounts.append(field(field(used, "cost_details"), "upstream_inference_cost"))
    known = [Decimal(str(amount)) for amount in amounts if type(amount) in (int, float) and 0 <= amount < inf]
    return Cost(sum(known, Decimal()), "provider") if known else None
