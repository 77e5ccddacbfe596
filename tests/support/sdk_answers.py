"""The same answer in each provider's API, streamed and whole: a text, a tool call, and usage."""

from __future__ import annotations

import json
from typing import Any

from tests.support.provider_clients import body_of

MODELS = {
    "chat": "gpt-5-mini",
    "responses": "gpt-5-mini",
    "messages": "claude-sonnet-4-6",
    "content": "gemini-2.5-flash",
    "mistral": "mistral-small-latest",
    "groq": "llama-3.3-70b-versatile",
}
PIECES = ("I will ", "look.")
ARGS = '{"at": "A-1"}'
USED = (1000, 20)
"""Input and output tokens; 400 input tokens are cached, if the API reports cached tokens."""


def _chunk(api: str, delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": MODELS[api]}
    return {**head, "choices": [choice], **more}


def _chat_usage() -> dict[str, Any]:
    given, taken = USED
    details = {"prompt_tokens_details": {"cached_tokens": 400}}
    return {"prompt_tokens": given, "completion_tokens": taken, "total_tokens": given + taken, **details}


def _chat(api: str) -> list[dict[str, Any]]:
    function = {"name": "look", "arguments": ARGS}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    return [
        _chunk(api, {"role": "assistant", "content": ""}),
        *(_chunk(api, {"content": piece}) for piece in PIECES),
        _chunk(api, {"tool_calls": [call]}),
        _chunk(api, {}, "tool_calls"),
        {**_chunk(api, {}), "choices": [], "usage": _chat_usage()},
    ]


def _completion(api: str) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": ARGS}}
    message = {"role": "assistant", "content": "".join(PIECES), "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    head = {"id": "c-1", "object": "chat.completion", "created": 1, "model": MODELS[api]}
    return {**head, "choices": [choice], "usage": _chat_usage()}


def response(status: str = "in_progress", **more: Any) -> dict[str, Any]:
    """Response of the Responses API, with further fields."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": MODELS["responses"],
        "status": status,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
        "error": None,
        "incomplete_details": None,
        **more,
    }


def _outputs(done: bool) -> list[dict[str, Any]]:
    status = "completed" if done else "in_progress"
    part = {"type": "output_text", "text": "".join(PIECES), "annotations": []}
    message = {"type": "message", "id": "msg_0", "role": "assistant", "content": [part] if done else []}
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": done * ARGS}
    return [{**message, "status": status}, {**call, "status": status}]


def _finished() -> dict[str, Any]:
    given, taken = USED
    details = {"input_tokens_details": {"cached_tokens": 400}, "output_tokens_details": {"reasoning_tokens": 0}}
    usage = {"input_tokens": given, "output_tokens": taken, "total_tokens": given + taken, **details}
    return response("completed", output=_outputs(True), usage=usage)


def _responses() -> list[dict[str, Any]]:
    message, call = _outputs(False)
    told, called = _outputs(True)
    place = {"output_index": 0, "item_id": "msg_0", "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    deltas = [{"type": "response.output_text.delta", "delta": each, "logprobs": [], **place} for each in PIECES]
    arguments = {"type": "response.function_call_arguments.delta", "output_index": 1, "item_id": "fc_1", "delta": ARGS}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response()},
        {"type": "response.output_item.added", "output_index": 0, "item": message},
        {"type": "response.content_part.added", "part": part, **place},
        *deltas,
        {"type": "response.output_item.done", "output_index": 0, "item": told},
        {"type": "response.output_item.added", "output_index": 1, "item": call},
        arguments,
        {"type": "response.output_item.done", "output_index": 1, "item": called},
        {"type": "response.completed", "response": _finished()},
    ]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _message(**more: Any) -> dict[str, Any]:
    given, taken = USED
    usage = {"input_tokens": given - 400, "cache_read_input_tokens": 400, "cache_creation_input_tokens": 0}
    blocks = [
        {"type": "text", "text": "".join(PIECES)},
        {"type": "tool_use", "id": "call_1", "name": "look", "input": json.loads(ARGS)},
    ]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODELS["messages"],
        "content": blocks,
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": taken},
        **more,
    }


def _messages() -> list[dict[str, Any]]:
    start = _message(content=[], stop_reason=None)
    start["usage"] = {**start["usage"], "output_tokens": 1}
    call = {"type": "tool_use", "id": "call_1", "name": "look", "input": {}}
    piece = {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ARGS}}
    texts = [{"type": "text_delta", "text": text} for text in PIECES]
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": text} for text in texts),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": call},
        piece,
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": USED[1]},
        },
        {"type": "message_stop"},
    ]


def _content(*parts: dict[str, Any], finish: str | None = None, taken: int = 0) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    counts = {"promptTokenCount": USED[0], "candidatesTokenCount": taken, "cachedContentTokenCount": 400}
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": MODELS["content"], "responseId": "r-1"}


_CALL = {"functionCall": {"name": "look", "args": json.loads(ARGS)}}


def events_of(api: str) -> list[dict[str, Any]]:
    """Events of the streamed answer."""
    match api:
        case "responses":
            return _responses()
        case "messages":
            return _messages()
        case "content":
            first, second = ({"text": piece} for piece in PIECES)
            return [_content(first), _content(second, taken=5), _content(_CALL, finish="STOP", taken=USED[1])]
    return _chat(api)


def streamed(api: str, events: list[dict[str, Any]] | None = None) -> bytes:
    """Body of the HTTP response with the streamed answer, or with other `events`."""
    done = api in ("chat", "mistral", "groq") and events is None
    return body_of(events_of(api) if events is None else events, named=api == "messages", done=done)


def whole(api: str) -> bytes:
    """Body of the HTTP response without streaming."""
    match api:
        case "responses":
            answer = _finished()
        case "messages":
            answer = _message()
        case "content":
            answer = _content({"text": "".join(PIECES)}, _CALL, finish="STOP", taken=USED[1])
        case _:
            answer = _completion(api)
    return json.dumps(answer).encode()


def refused(api: str) -> bytes:
    """Body of an HTTP response that rejects the request."""
    if api == "content":
        return json.dumps({"error": {"code": 400, "message": "too long", "status": "INVALID_ARGUMENT"}}).encode()
    return json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}}).encode()


def failing(api: str) -> list[dict[str, Any]]:
    """Events of an answer that fails after its first pieces."""
    error = {"type": "server_error", "code": "server_error", "message": "overloaded"}
    match api:
        case "responses":
            return [*_responses()[:4], {"type": "error", "sequence_number": 4, "param": None, **error, "error": error}]
        case "messages":
            return [*_messages()[:3], {"type": "error", "error": {"type": "overloaded_error", "message": "overloaded"}}]
        case "content":
            return [events_of(api)[0], {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}]
    return [*_chat(api)[:2], {"error": error}]
