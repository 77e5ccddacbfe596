"""Answers without streaming, as the items of a stream: the adapter of the stream records every kind of part."""

from __future__ import annotations

from typing import Any

from sidestream.sources.sdk.whole import message_items, response_items
from sidestream.testing.adapters import events_of, outline


def test_every_part_of_a_response_is_recorded() -> None:
    answer: dict[str, Any] = {
        "model": "gpt-5",
        "status": "completed",
        "output": [
            {"type": "reasoning", "summary": [{"text": "because "}], "content": [{"text": "it is"}]},
            {
                "type": "message",
                "content": [{"type": "output_text", "text": "42"}, {"type": "refusal", "refusal": "no"}],
            },
            {"type": "function_call", "call_id": "call-1", "name": "look", "arguments": '{"at": "sky"}'},
            {"type": "custom_tool_call", "call_id": "call-2", "name": "write", "input": "free text"},
            {"type": "web_search_call", "id": "call-3"},
        ],
    }
    assert outline(events_of(response_items(answer), "openai-responses")) == [
        ("request", "gpt-5"),
        ("thinking", "because it is"),
        ("text", "42"),
        ("text", "no"),
        ("tool_call", "look", '{"at": "sky"}'),
        ("tool_call", "write", "free text"),
        ("tool", "web_search", None),
        ("tool ends", "web_search", "ok"),
        ("request ends", "ok", "tool_call", None),
        ("run ends", "completed"),
    ]


def test_every_block_of_a_message_is_recorded() -> None:
    answer: dict[str, Any] = {
        "model": "claude-sonnet-4-6",
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 10, "output_tokens": 2},
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "…"},
            {"type": "text", "text": "42"},
            {"type": "tool_use", "id": "call-1", "name": "look", "input": {"at": "sky"}},
            {"type": "compaction", "content": "a summary"},
        ],
    }
    assert outline(events_of(message_items(answer), "anthropic")) == [
        ("request", "claude-sonnet-4-6"),
        ("thinking", "hm"),
        ("text", "42"),
        ("tool_call", "look", '{"at": "sky"}'),
        ("other", "compaction"),
        ("request ends", "ok", "tool_call", (10, 2)),
        ("run ends", "completed"),
    ]
