"""Adapter for LangGraph: all modes of `stream` and `astream`, and `astream_events`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sidestream.events import Usage
from sidestream.sources.tap.recorder import StreamRecorder

from .fields import field
from .prices import load_price_list

MODES = ("messages", "updates", "values", "custom", "tasks", "debug", "checkpoints")
PROVIDERS = {"google_genai": "google", "google_vertexai": "google", "mistralai": "mistral", "amazon_bedrock": "aws"}
"""Provider names of LangChain that differ in genai-prices."""
_EVENT_PREFIXES = ("on_chain_", "on_chat_model_", "on_tool_", "on_llm_", "on_retriever_", "on_prompt_", "on_parser_")


class LangGraph:
    """Items are the output of a graph: LangChain messages, alone or in updates, values and tasks, or LangChain events.

    Each message of a model is a request. Its times depend on the mode: tokens in `messages` and in events, whole
    messages otherwise. Requests of concurrent nodes are recorded one after the other.
    """

    def __init__(self) -> None:
        load_price_list()
        self._seen: set[Any] = set()
        """Ids of recorded messages."""
        self._open: Any = None
        """Id of the message, or of the model's run, being recorded."""
        self._counts: dict[str, Any] = {}
        self._has_parts = False
        """Whether a piece of the current message has been recorded."""
        self._node: Any = None
        self._is_first = True
        self._calls: dict[Any, Any] = {}
        """Keys of the current message's tool calls, by index."""

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` is such output. Values of a graph whose state has no messages cannot be recognized."""
        if isinstance(item, Mapping) and str(item.get("event")).startswith(_EVENT_PREFIXES):
            return "run_id" in item
        if isinstance(item, Mapping) and item.get("type") in ("task", "task_result", "checkpoint"):
            return item.keys() >= {"step", "payload"}
        mode, payload = _unwrapped(item)
        return mode is not None or any(True for _ in _messages(payload))

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        if isinstance(item, Mapping) and "run_id" in item and str(item.get("event")).startswith(_EVENT_PREFIXES):
            self._event(item, record)
            return
        mode, payload = _unwrapped(item)
        if mode == "messages":
            self._token(payload[0], payload[1], record)
        elif mode == "custom":
            record.custom("custom", payload)
        elif isinstance(payload, Mapping):
            self._state(mode or _mode_of(payload), payload, record)
        self._is_first = False

    # --- messages ---

    def _token(self, message: Any, metadata: Any, record: StreamRecorder) -> None:
        self._at_node(metadata.get("langgraph_node"), metadata.get("langgraph_step"), record)
        if field(message, "type") == "tool":
            self._tool_result(message, record)
            return
        id = field(message, "id")
        if id != self._open and id not in self._seen:
            self._begin(id, metadata, record)
        if id == self._open:
            self._piece(message, record)
            if field(message, "chunk_position") == "last" or not _is_chunk(message):
                self._over(message, record)

    def _begin(self, id: Any, metadata: Any, record: StreamRecorder, **facts: Any) -> None:
        self._close(record)
        if record.outcome == "completed":
            record.outcome = None  # belonged to the previous message
        self._open, self._counts, self._calls, self._has_parts = id, {}, {}, False
        self._seen.add(id)
        provider = metadata.get("ls_provider")
        model, provider = metadata.get("ls_model_name"), PROVIDERS.get(provider, provider)
        if facts:
            record.request_start(model, provider=provider, **facts)
        record.response(provider=provider, response_model=model)
        record.answer_begins()

    def _piece(self, message: Any, record: StreamRecorder) -> None:
        self._has_parts = True
        content = field(message, "content")
        for block in [content] if isinstance(content, str) else content or ():
            kind = "text" if isinstance(block, str) else field(block, "type")
            if kind == "text":
                text = block if isinstance(block, str) else field(block, "text")
                if text:
                    record.text(text)
            elif kind in ("thinking", "reasoning"):
                record.thinking(field(block, kind) or "")
        chunks = field(message, "tool_call_chunks") if _is_chunk(message) else None
        for number, call in enumerate(chunks or ()):
            index = field(call, "index")
            key = self._calls.setdefault(number if index is None else index, field(call, "id") or number)
            names = {"tool_name": field(call, "name"), "tool_call_id": field(call, "id")}
            record.tool_call(key, field(call, "args") or "", **names)
        if not _is_chunk(message):
            for call in field(message, "tool_calls") or ():
                names = {"tool_name": field(call, "name"), "tool_call_id": field(call, "id")}
                record.tool_call(field(call, "id"), _json(field(call, "args")), **names)
        for name, count in _usage(field(message, "usage_metadata")).items():
            self._counts[name] = self._counts.get(name, 0) + count

    def _over(self, message: Any, record: StreamRecorder) -> None:
        """Record the end of a message."""
        about = field(message, "response_metadata") or {}
        record.response(
            response_model=about.get("model_name") or about.get("model"),
            response_id=about.get("id"),
            service_tier=about.get("service_tier"),
        )
        calls = field(message, "tool_calls") or self._calls
        reason = about.get("finish_reason") or about.get("stop_reason") or ("tool_call" if calls else "stop")
        record.answer_complete(str(reason))
        self._close(record)

    def _close(self, record: StreamRecorder) -> None:
        if self._open is not None:
            self._open = None
            if any(self._counts.values()):
                record.usage(Usage(**self._counts))
            record.request_end("ok" if record.outcome == "completed" else "interrupted")

    def _tool_result(self, message: Any, record: StreamRecorder) -> None:
        id = field(message, "tool_call_id")
        if ("tool", id) not in self._seen:
            self._seen.add(("tool", id))
            outcome: Any = "failed" if field(message, "status") == "error" else "ok"
            self._close(record)
            record.tool_end(
                field(message, "name") or "tool", field(message, "content"), tool_call_id=id, outcome=outcome
            )

    # --- updates, values, tasks ---

    def _state(self, mode: str, payload: Any, record: StreamRecorder) -> None:
        if mode in ("debug", "tasks"):
            payload = payload.get("payload", payload)
            self._at_node(payload.get("name"), None, record)
            payload = payload.get("result")
        elif mode == "updates":
            for node in payload:
                self._at_node(node, None, record)
        for message in _messages(payload):
            kind, id = field(message, "type"), field(message, "id")
            if mode == "values" and self._is_first:
                self._seen.add(id if kind != "tool" else ("tool", field(message, "tool_call_id")))  # input of the graph
            elif kind == "tool":
                self._tool_result(message, record)
            elif kind == "ai" and id not in self._seen:
                about = field(message, "response_metadata") or {}
                named = {"ls_provider": about.get("model_provider"), "ls_model_name": about.get("model_name")}
                self._begin(id, named, record)
                record.start_known = False  # a whole message: the time of its first token is unknown
                self._piece(message, record)
                self._over(message, record)

    def _at_node(self, node: Any, step: Any, record: StreamRecorder) -> None:
        known, known_step = self._node or (None, None)
        same = node == known and (step is None or known_step is None or step == known_step)
        if isinstance(node, str) and not same and not node.startswith("__"):
            self._close(record)
            self._node = node, step
            record.custom("node", {"node": node} if step is None else {"node": node, "step": step})

    # --- events ---

    def _event(self, event: Mapping[str, Any], record: StreamRecorder) -> None:
        id, name, data = event["run_id"], event.get("name") or "", event.get("data") or {}
        metadata = event.get("metadata") or {}
        match event["event"]:
            case "on_chain_start" if metadata.get("langgraph_node") == name:
                self._at_node(name, metadata.get("langgraph_step"), record)
            case "on_chat_model_start":
                asked = next(iter(field(data.get("input"), "messages") or ()), ())
                self._begin(id, {"ls_model_name": name, **metadata}, record, messages=len(asked))
            case "on_chat_model_stream" if id == self._open:
                self._piece(data.get("chunk"), record)
            case "on_chat_model_end" if id == self._open:
                message = data.get("output")
                if not any(field(message, "type") == kind for kind in ("ai", "AIMessageChunk")):
                    message = None
                whole = _usage(field(message, "usage_metadata"))
                if not self._has_parts:
                    self._piece(message, record)
                self._counts = whole or self._counts
                self._over(message, record)
            case "on_tool_start":
                record.tool_start(name, data.get("input"), tool_call_id=id)
            case "on_tool_end":
                result = data.get("output")
                outcome: Any = "failed" if field(result, "status") == "error" else "ok"
                record.tool_end(name, field(result, "content") or result, tool_call_id=id, outcome=outcome)
            case "on_tool_error":
                record.tool_end(name, tool_call_id=id, outcome="failed")
            case "on_custom_event":
                record.custom(name, data)

    def end(self, record: StreamRecorder) -> None:
        """Record the usage of an incomplete message."""
        if self._open is not None and any(self._counts.values()):
            record.usage(Usage(**self._counts))


def _unwrapped(item: Any) -> tuple[str | None, Any]:
    """Mode (None if not evident) and payload of an item, which may be wrapped with its mode or namespace."""
    if not isinstance(item, tuple):
        return None, item
    if len(item) == 2 and isinstance(item[1], Mapping) and "langgraph_node" in item[1]:
        return "messages", item
    if len(item) == 3 and isinstance(item[0], tuple) and item[1] in MODES:
        return item[1], item[2]
    if len(item) == 2 and isinstance(item[0], str) and item[0] in MODES:
        return item[0], item[1]
    if len(item) == 2 and isinstance(item[0], tuple):
        return _unwrapped(item[1])
    return None, None


def _mode_of(payload: Mapping[str, Any]) -> str:
    """Mode of an unwrapped item, according to its keys."""
    if payload.keys() >= {"type", "payload"}:
        return "debug"
    if payload.keys() >= {"id", "name"}:
        return "tasks"
    return "values" if "messages" in payload else "updates"


def _messages(payload: Any) -> Iterator[Any]:
    """LangChain messages in a state, or in the updates of nodes."""
    if not isinstance(payload, Mapping):
        return
    for value in payload.values():
        found = value.get("messages") if isinstance(value, Mapping) else value
        for each in found if isinstance(found, list) else [found]:
            if type(each).__module__.startswith("langchain_core.messages"):
                yield each


def _is_chunk(message: Any) -> bool:
    return str(field(message, "type")).endswith("Chunk")


def _usage(counts: Any) -> dict[str, int]:
    """Convert LangChain's usage to the names of the log."""
    given, taken = field(counts, "input_token_details") or {}, field(counts, "output_token_details") or {}
    found = {
        "input_tokens": field(counts, "input_tokens"),
        "output_tokens": field(counts, "output_tokens"),
        "cache_read_tokens": given.get("cache_read"),
        "cache_write_tokens": given.get("cache_creation"),
        "input_audio_tokens": given.get("audio"),
        "reasoning_tokens": taken.get("reasoning"),
    }
    return {name: count for name, count in found.items() if isinstance(count, int) and count}


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value or {}, default=str)
