"""Adapter for Anthropic's Messages API."""

from __future__ import annotations

from typing import Any

from sidestream.recording.snapshot import safe_str
from sidestream.sources.tap.recorder import StreamRecorder

from .fields import UsageSoFar, field, plain
from .prices import load_price_list

_TYPES = {"message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"}


class Anthropic:
    """Items are events of Anthropic's Messages API: objects of the client, events of its helper, or their dicts.

    Additional events of the helper (`text`, `input_json`, …) repeat the content and are skipped.
    """

    def __init__(self) -> None:
        load_price_list()
        self._usage = UsageSoFar("anthropic", required=("input_tokens", "output_tokens"))
        self._counts: dict[str, Any] = {}
        self._server_tools: dict[Any, tuple[str, str | None, list[str]]] = {}
        """Name, id and argument pieces of a tool executed by the provider, by index of the block."""
        self._running: dict[str | None, str] = {}
        """Names of tools executed by the provider that have no result yet, by id."""

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is an event of Anthropic's Messages API."""
        return field(item, "type") in _TYPES

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        match field(item, "type"):
            case "content_block_delta":
                self._delta(field(item, "index"), field(item, "delta"), record)
            case "message_start":
                record.provider_is("anthropic")
                message = field(item, "message")
                record.response(response_model=field(message, "model"), response_id=field(message, "id"))
                record.answer_begins()
                record.response(service_tier=field(field(message, "usage"), "service_tier"))
                self._count(field(message, "usage"))
            case "content_block_start":
                self._block(field(item, "index"), field(item, "content_block"), record)
            case "content_block_stop":
                self._block_over(field(item, "index"), record)
            case "message_delta":
                self._count(field(item, "usage"))
                if reason := field(field(item, "delta"), "stop_reason"):
                    record.answer_complete(reason)
            case "error":
                error = field(item, "error")
                record.error(safe_str(field(error, "message") or error), str(field(error, "type") or "Error"), "model")

    def _block(self, index: Any, block: Any, record: StreamRecorder) -> None:
        kind = field(block, "type")
        name, id = field(block, "name"), field(block, "id")
        if kind == "tool_use":
            record.tool_call(index, tool_name=name, tool_call_id=id)
        elif kind in ("thinking", "redacted_thinking"):
            record.thinking("", index)  # also if hidden, because thinking takes time
        elif kind in ("server_tool_use", "mcp_tool_use"):
            self._server_tools[index] = (name, id, [])
        elif isinstance(kind, str) and kind.endswith("_tool_result"):
            call_id = field(block, "tool_use_id")
            name = self._running.pop(call_id, kind.removesuffix("_tool_result"))
            content = field(block, "content")
            failed = field(block, "is_error") is True or str(field(content, "type")).endswith("_error")
            record.tool_end(name, plain(content), tool_call_id=call_id, outcome="failed" if failed else "ok")

    def _delta(self, index: Any, delta: Any, record: StreamRecorder) -> None:
        match field(delta, "type"):
            case "text_delta":
                record.text(field(delta, "text"), index)
            case "thinking_delta":
                record.thinking(field(delta, "thinking"), index)
            case "input_json_delta" if index in self._server_tools:
                self._server_tools[index][2].append(field(delta, "partial_json"))
            case "input_json_delta":
                record.tool_call(index, field(delta, "partial_json"))
            case "compaction_delta":
                record.piece("other", index, field(delta, "content") or "", {"part_kind": "compaction"})

    def _block_over(self, index: Any, record: StreamRecorder) -> None:
        if (call := self._server_tools.pop(index, None)) is not None:
            name, id, pieces = call
            self._running[id] = name
            record.tool_start(name, "".join(pieces) or None, tool_call_id=id)

    def _count(self, usage: Any) -> None:
        """Update the cumulative counts of the answer; omitted counts stay valid."""
        counts = plain(usage)
        if isinstance(counts, dict):
            self._counts |= counts
            self._usage.keep(_with_compaction(self._counts))

    def end(self, record: StreamRecorder) -> None:
        """Record the usage."""
        self._usage.report(record)


def _with_compaction(counts: dict[str, Any]) -> dict[str, Any]:
    """Add the passes that compact a long history: they are billed, but missing in the counts of the answer."""
    passes = counts.get("iterations")
    passes = [each for each in passes if isinstance(each, dict)] if isinstance(passes, list) else []
    more = [each for each in passes if each.get("type") == "compaction"]
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return counts | {name: sum(each.get(name) or 0 for each in (counts, *more)) for name in names}
