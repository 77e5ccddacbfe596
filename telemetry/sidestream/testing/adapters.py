"""Test kit for adapters of `Sidecar.tap`: stream items in, events out.

def test_tokens() -> None:
    items = [{"type": "token", "text": "Hel"}, {"type": "token", "text": "lo"}]
    assert outline(events_of(items, my_adapter)) == [
        ("request", "unknown"),
        ("text", "Hello"),
        ("request ends", "ok", None, None),
        ("run ends", "completed"),
    ]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sidestream.adapters import Adapter
from sidestream.events import StreamEvent, payloads
from sidestream.pipeline.memory import InMemoryExporter
from sidestream.sidecar import Sidecar


def events_of(
    items: Iterable[Any], adapter: str | Adapter | type[Adapter] | None = None, **about: Any
) -> list[StreamEvent]:
    """Events of a run whose stream yields `items`.

    Args:
        items: Items of the stream. An exception among them is raised by the stream, and caught here.
        adapter: As for `Sidecar.tap`.
        about: Further arguments of `Sidecar.tap`.

    Raises:
        AssertionError: The adapter raised, or the caller did not get the stream's own items.
    """
    given = list(items)
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        got = []
        stream = sidecar.tap(_stream(given), adapter=adapter, **about)
        try:
            for item in stream:
                got.append(item)
        except Exception as error:
            got.append(error)
        assert list(map(id, got)) == list(map(id, given)), "the caller does not get the very items of the stream"
        assert sidecar.flush() == {}
        assert sidecar.stats().recording_errors == 0, (
            "the adapter raised: the line 'recording failed' names the exception"
        )
    return memory.events


def _stream(items: list[Any]) -> Iterable[Any]:
    for item in items:
        if isinstance(item, Exception):
            raise item
        yield item


def outline(events: Iterable[StreamEvent]) -> list[tuple[Any, ...]]:
    """Summary of `events` as a list of tuples, for comparison in a test.

    The rows are `("request", model)`, `("text", text)`, `("thinking", text)`, `("tool_call", name, arguments)`,
    `("other", part kind)`, `("tool", name, args)`, `("tool ends", name, outcome)`,
    `("request ends", outcome, finish reason, (input tokens, output tokens) or None)`, `("error", where, type)`,
    `("retry", cause)`, `("result", output)`, `("custom", name)` and `("run ends", outcome)`. The deltas of a part are
    joined into one row, at the place of the first delta.
    """
    rows: list[list[Any]] = []
    parts: dict[tuple[int | None, int | None], list[Any]] = {}
    for event in events:
        match event.data:
            case payloads.LLMChunk() as chunk:
                row = parts.get((chunk.request, chunk.part))
                if row is None:
                    row = parts[chunk.request, chunk.part] = _part(chunk)
                    rows.append(row)
                if chunk.kind != "other":
                    row[-1] += chunk.text or ""
            case payloads.LLMStart() as start:
                rows.append(["request", start.model])
            case payloads.LLMEnd() as end:
                usage = end.usage
                tokens = None if usage is None else (usage.input_tokens, usage.output_tokens)
                rows.append(["request ends", end.outcome, end.finish_reason, tokens])
            case payloads.ToolStart() as tool:
                rows.append(["tool", tool.tool_name, tool.args])
            case payloads.ToolEnd() as tool:
                rows.append(["tool ends", tool.tool_name, tool.outcome])
            case payloads.Error() as error:
                rows.append(["error", error.where, error.exception_type])
            case payloads.Retry() as retry:
                rows.append(["retry", retry.cause])
            case payloads.FinalResult() as result:
                rows.append(["result", result.output])
            case payloads.Custom() as custom:
                rows.append(["custom", custom.name])
            case payloads.AgentEnd() as over:
                rows.append(["run ends", over.outcome])
    return [tuple(row) for row in rows]


def _part(chunk: payloads.LLMChunk) -> list[Any]:
    match chunk.kind:
        case "tool_call":
            return ["tool_call", chunk.tool_name, ""]
        case "other":
            return ["other", chunk.part_kind]
    return [chunk.kind, ""]
