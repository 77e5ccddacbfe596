"""Output of Claude's command-line program in the form read by the Claude Agent SDK."""

from __future__ import annotations

from typing import Any

MODEL = "claude-sonnet-4-6"
_HEAD: dict[str, Any] = {"session_id": "s-1", "parent_tool_use_id": None, "uuid": "u-1"}
_USED = {"input_tokens": 600, "cache_read_input_tokens": 400, "cache_creation_input_tokens": 0, "output_tokens": 1}
INIT: dict[str, Any] = {"type": "system", "subtype": "init", "session_id": "s-1", "model": MODEL, "tools": ["Bash"]}
TEXT = {"type": "text", "text": "I will look."}
CALL = {"type": "tool_use", "id": "call_1", "name": "Bash", "input": {"command": "ls"}}


def said(id: str, *blocks: dict[str, Any], below: str | None = None) -> dict[str, Any]:
    """Message of the model, or of a sub-agent within the tool call `below`."""
    message = {"id": id, "type": "message", "role": "assistant", "model": MODEL, "content": list(blocks)}
    return {"type": "assistant", **_HEAD, "parent_tool_use_id": below, "message": {**message, "usage": _USED}}


def tool_gave(call_id: str, content: Any, *, is_error: bool = False) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": call_id, "content": content, "is_error": is_error}
    return {"type": "user", **_HEAD, "message": {"role": "user", "content": [block]}}


def result(turns: int, output: int, **more: Any) -> dict[str, Any]:
    """Result after `turns` turns with `output` output tokens in total."""
    used = {name: turns * count for name, count in _USED.items()} | {"output_tokens": output}
    about = {"duration_ms": 10, "duration_api_ms": 5, "num_turns": turns, "total_cost_usd": 0.5}
    over = {"subtype": "success", "is_error": False, "result": "at A-1", "session_id": "s-1", "uuid": "u-2"}
    return {"type": "result", **over, **about, "usage": used, **more}


def in_pieces(id: str, output: int, *blocks: dict[str, Any]) -> list[dict[str, Any]]:
    """Message as events with `include_partial_messages`, plus each block as a whole message."""
    message = {"id": id, "type": "message", "role": "assistant", "model": MODEL, "content": [], "usage": _USED}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    for index, block in enumerate(blocks):
        delta = {"type": "text_delta", "text": block.get("text")}
        if block["type"] == "tool_use":
            delta = {"type": "input_json_delta", "partial_json": '{"command": "ls"}'}
        events += [
            {"type": "content_block_start", "index": index, "content_block": {**block, "text": "", "input": {}}},
            {"type": "content_block_delta", "index": index, "delta": delta},
            block,
            {"type": "content_block_stop", "index": index},
        ]
    reason = "tool_use" if CALL in blocks else "end_turn"
    events.append({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": output}})
    return [said(id, each) if each in blocks else {"type": "stream_event", **_HEAD, "event": each} for each in events]


WHOLE = [
    INIT,
    said("m-1", {"type": "thinking", "thinking": "Hm.", "signature": "s"}),
    said("m-1", TEXT),
    said("m-1", CALL),
    tool_gave("call_1", "A-1"),
    said("m-2", {"type": "text", "text": "at A-1"}),
    result(2, 24),
]
IN_PIECES = [
    INIT,
    *in_pieces("m-1", 20, TEXT, CALL),
    tool_gave("call_1", "A-1"),
    *in_pieces("m-2", 4, {"type": "text", "text": "at A-1"}),
    result(2, 24),
]
