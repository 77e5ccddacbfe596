"""Invariants of a log, and the outline of a run: its log as one line, for expectations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_ai import ModelMessage, ModelResponse, TextPart, ThinkingPart, ToolCallPart

from sidestream.events import StreamEvent, StreamEventType, split_pieces

Events = Sequence[StreamEvent]


def of(events: Events, event_type: str) -> list[Any]:
    """Payloads of one type, in order."""
    return [event.data for event in events if event.event_type == event_type]


def by_run(events: Events) -> list[list[StreamEvent]]:
    """Events of each run, in order of the runs' start."""
    runs: dict[str, list[StreamEvent]] = {}
    for event in events:
        runs.setdefault(event.run_id, []).append(event)
    return list(runs.values())


def outline(events: Events) -> str:
    """One run as a line: what ended, how, in which order. `~` marks partial usage."""
    words: list[str] = []
    for event in events:
        data: Any = event.data
        match event.event_type:
            case StreamEventType.LLM_END:
                words.append(f"llm:{data.outcome}{'~' if data.usage_source == 'partial' else ''}")
            case StreamEventType.TOOL_END:
                words.append(f"{data.tool_name}:{data.outcome}")
            case StreamEventType.RETRY:
                words.append(f"retry:{data.cause}")
            case StreamEventType.ERROR:
                words.append(f"error:{data.where}:{data.exception_type.rpartition('.')[2]}")
            case StreamEventType.FINAL_RESULT:
                words.append("final")
            case StreamEventType.CUSTOM:
                words.append(f"custom:{data.name}")
            case StreamEventType.AGENT_END:
                words.append(data.outcome)
            case _:
                pass
    return " ".join(words)


def pieces_of(events: Events) -> dict[int, list[str]]:
    """Logged deltas with text, by part; parts may be interleaved."""
    pieces: dict[int, list[str]] = {}
    for data in of(events, "llm_chunk"):
        if data.lengths:
            pieces.setdefault(data.part, []).extend(filter(None, split_pieces(data.text, data.lengths)))
    return pieces


def assert_pieces(events: Events, seen: dict[int, list[str]]) -> None:
    """Assert that the log starts with the deltas in `seen`. The log may hold more, which the caller did not read."""
    logged = pieces_of(events)
    for index, pieces in seen.items():
        assert logged.get(index, [])[: len(pieces)] == pieces


def assert_whole(events: Events) -> None:
    """Assert that the events form one complete and consistent run, whatever its outcome."""
    assert [event.seq for event in events] == list(range(len(events)))
    types = [event.event_type for event in events]
    assert types.count(StreamEventType.AGENT_START) == types.count(StreamEventType.AGENT_END) == 1
    assert types[0] == StreamEventType.AGENT_START
    assert types[-1] == StreamEventType.AGENT_END
    assert len({event.run_id for event in events}) == 1
    assert all(event.offset >= 0 for event in events)
    end: Any = events[-1].data
    assert end.success is (end.outcome == "completed")
    assert types.count(StreamEventType.FINAL_RESULT) == (1 if end.outcome == "completed" else 0)
    if end.outcome == "error":
        assert of(events, "error")[-1].exception_type == end.exception_type
    _assert_requests(events, end)
    _assert_tools(events, end)
    assert end.retries == types.count(StreamEventType.RETRY)


def _assert_requests(events: Events, end: Any) -> None:
    started: dict[int, Any] = {}
    ended: list[Any] = []
    for event in events:
        data: Any = event.data
        match event.event_type:
            case StreamEventType.LLM_START:
                assert data.request == len(started) + 1
                started[data.request] = data
            case StreamEventType.LLM_CHUNK:
                assert data.request in started
                assert data.request not in [other.request for other in ended], "a chunk after the end of its request"
                if data.lengths is not None:
                    assert len(data.offsets_us) == len(data.lengths)
                    assert sum(data.lengths) == len(data.text)
            case StreamEventType.LLM_END:
                assert data.request in started
                assert data.streaming == started[data.request].streaming
                assert data.duration_seconds >= 0
                ended.append(data)
            case StreamEventType.PROGRESS:
                assert data.iteration == ended[-1].request
            case _:
                pass
    assert sorted(data.request for data in ended) == sorted(started), "each request starts once and ends once"
    assert end.total_iterations == len(started) == len(of(events, "progress"))
    for data in ended:
        if not data.streaming:
            assert data.time_to_first_chunk_seconds is None
            assert data.time_to_first_token_seconds is None
        if data.outcome == "error":
            assert any(error.request == data.request and error.where == "model" for error in of(events, "error"))
        if data.outcome in ("cancelled", "interrupted", "error") and data.usage is not None:
            assert data.usage_source == "partial"
        assert (data.usage is None) == (data.usage_source == "none")
    for name in ("input_tokens", "output_tokens"):
        used = [getattr(data.usage, name) for data in ended if data.usage is not None]
        used += [
            getattr(attempt.usage, name) for data in ended for attempt in data.failed_attempts or () if attempt.usage
        ]
        assert (end.usage.get(name) if end.usage else None) == (sum(used) if used else None)


def _assert_tools(events: Events, end: Any) -> None:
    running: list[tuple[str, str | None]] = []
    for event in events:
        data: Any = event.data
        if event.event_type == StreamEventType.TOOL_START:
            running.append((data.tool_name, data.tool_call_id))
        elif event.event_type == StreamEventType.TOOL_END:
            running.remove((data.tool_name, data.tool_call_id))
            if data.outcome in ("invalid", "unknown", "denied"):
                assert data.duration_seconds is None, "never executed"
            elif data.outcome != "deferred":
                assert data.duration_seconds >= 0
    assert not running, "each tool call starts once and ends once"
    assert end.tool_calls == len(of(events, "tool_start"))


def assert_answers(events: Events, messages: Sequence[ModelMessage]) -> None:
    """Assert that each complete answer in the log equals the answer in the run's history."""
    run_id = events[0].run_id
    answers = [message for message in messages if isinstance(message, ModelResponse) and message.run_id == run_id]
    whole = [data.request for data in of(events, "llm_end") if data.outcome == "ok"]
    for number, answer in zip(whole, answers, strict=False):
        for index, part in enumerate(answer.parts):
            chunks = [d for d in of(events, "llm_chunk") if d.request == number and d.part == index]
            text = "".join(chunk.text or "" for chunk in chunks)
            match part:
                case TextPart() | ThinkingPart():
                    assert text == part.content
                    assert {chunk.kind for chunk in chunks} <= {part.part_kind}
                case ToolCallPart():
                    assert text == part.args
                    assert {chunk.tool_name for chunk in chunks} == {part.tool_name}
                case _:
                    pass
