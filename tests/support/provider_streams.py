"""Reference reading of recorded streams, from raw events according to each provider's documentation.

Written independently of pydantic-ai and the observer, as a reference for the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.support.recorded_agents import Api


@dataclass
class Part:
    """Part of an answer, with its non-empty pieces in order."""

    kind: str
    pieces: list[str] = field(default_factory=list)
    tool_name: str | None = None
    tool_call_id: str | None = None
    whole: bool = False
    """Whether the arguments arrived as a JSON object instead of pieces of text."""


@dataclass
class Answer:
    """Streamed answer."""

    parts: dict[object, Part] = field(default_factory=dict)
    """Parts in order of their start."""
    usage: dict[str, int] = field(default_factory=dict)
    """Usage by the log's names; empty if not reported."""
    model: str | None = None
    response_id: str | None = None
    finish_reason: str | None = None
    service_tier: str | None = None
    cost: Decimal | None = None
    """Charge reported by the provider, in US dollars."""
    error: dict[str, Any] | None = None
    """Error object within the stream."""

    def piece(self, key: object, kind: str, text: str | None) -> Part:
        part = self.parts.setdefault(key, Part(kind))
        if text:
            part.pieces.append(text)
        return part

    @property
    def kinds(self) -> list[str]:
        """Kinds of the non-empty parts, in order of their start."""
        return list(dict.fromkeys(part.kind for part in self.parts.values() if part.pieces))


def read_answer(api: Api, events: list[Any]) -> Answer:
    """Read the answer in the server-sent `events`."""
    answer = Answer()
    for event in events:
        _READERS[api](answer, event)
    answer.parts = {key: part for key, part in answer.parts.items() if part.pieces or part.tool_name}
    return answer


_FINISH = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_call",
    "end_turn": "stop",
    "STOP": "stop",
    "completed": "stop",
}
"""Finish reasons of providers, in OpenTelemetry's vocabulary."""


def _chat(answer: Answer, event: dict[str, Any]) -> None:
    if error := event.get("error"):
        answer.error = error
        if "choices" not in event:
            if error.get("code") == "tool_use_failed":  # Groq includes the refused call as text
                call = json.loads(error["failed_generation"])
                answer.parts["failed"] = Part("tool_call", [json.dumps(call["arguments"])], call["name"], whole=True)
            return
    answer.model = event["model"]
    answer.response_id = event["id"]
    answer.service_tier = event.get("service_tier")
    for choice in event["choices"]:
        delta = choice["delta"]
        answer.piece("thinking", "thinking", delta.get("reasoning"))
        answer.piece("text", "text", delta.get("content"))
        for call in delta.get("tool_calls") or ():
            part = answer.piece(("call", call["index"]), "tool_call", call["function"].get("arguments"))
            part.tool_name = part.tool_name or call["function"].get("name")
            part.tool_call_id = part.tool_call_id or call.get("id")
        if reason := choice["finish_reason"]:
            answer.finish_reason = _FINISH[reason]
    if usage := event.get("usage"):
        given = {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "cache_read_tokens": (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
            "reasoning_tokens": (usage.get("completion_tokens_details") or {}).get("reasoning_tokens"),
        }
        answer.usage = {name: count for name, count in given.items() if count is not None}
        answer.cost = Decimal(str(usage["cost"])) if "cost" in usage else None


def _responses(answer: Answer, event: dict[str, Any]) -> None:
    match event["type"]:
        case "response.created" | "response.completed":
            response = event["response"]
            answer.model, answer.response_id = response["model"], response["id"]
            answer.service_tier = response.get("service_tier")
            if usage := response.get("usage"):
                answer.usage = {
                    "input_tokens": usage["input_tokens"],
                    "output_tokens": usage["output_tokens"],
                    "cache_read_tokens": usage["input_tokens_details"]["cached_tokens"],
                    "reasoning_tokens": usage["output_tokens_details"]["reasoning_tokens"],
                }
            if response["status"] == "completed":
                answer.finish_reason = _FINISH["completed"]
        case "response.output_item.added" if event["item"]["type"] == "function_call":
            item = event["item"]
            answer.parts[item["id"]] = Part("tool_call", [], item["name"], item["call_id"])
        case "response.function_call_arguments.delta":
            answer.piece(event["item_id"], "tool_call", event["delta"])
        case "response.output_text.delta":
            answer.piece(event["item_id"], "text", event["delta"])


def _anthropic(answer: Answer, event: dict[str, Any]) -> None:
    match event["type"]:
        case "message_start":
            answer.model, answer.response_id = event["message"]["model"], event["message"]["id"]
            answer.usage = _anthropic_usage(event["message"]["usage"])
        case "content_block_start" if event["content_block"]["type"] == "tool_use":
            block = event["content_block"]
            answer.parts[event["index"]] = Part("tool_call", [], block["name"], block["id"])
        case "content_block_delta":
            match event["delta"]:
                case {"type": "text_delta", "text": text}:
                    answer.piece(event["index"], "text", text)
                case {"type": "thinking_delta", "thinking": text}:
                    answer.piece(event["index"], "thinking", text)
                case {"type": "input_json_delta", "partial_json": text}:
                    answer.piece(event["index"], "tool_call", text)
                case {"type": "compaction_delta", "content": text}:
                    answer.piece(event["index"], "other", text)
        case "message_delta":
            answer.usage = _anthropic_usage(event["usage"])
            answer.finish_reason = _FINISH[event["delta"]["stop_reason"]]


def _anthropic_usage(usage: dict[str, Any]) -> dict[str, int]:
    # The top-level counts omit the compaction passes, which are billed as well.
    passes = [usage] + [it for it in usage.get("iterations") or () if it["type"] == "compaction"]
    read = sum(it["cache_read_input_tokens"] for it in passes)
    write = sum(it["cache_creation_input_tokens"] for it in passes)
    return {
        "input_tokens": sum(it["input_tokens"] for it in passes) + read + write,
        "output_tokens": sum(it["output_tokens"] for it in passes),
        "cache_read_tokens": read,
        "cache_write_tokens": write,
    }


def _google(answer: Answer, event: dict[str, Any]) -> None:
    answer.model, answer.response_id = event["modelVersion"], event["responseId"]
    for candidate in event["candidates"]:
        for part in candidate["content"]["parts"]:
            if call := part.get("functionCall"):
                arguments = json.dumps(call["args"])
                answer.parts[len(answer.parts)] = Part("tool_call", [arguments], call["name"], whole=True)
            else:
                answer.piece("text", "thinking" if part.get("thought") else "text", part["text"])
        if reason := candidate.get("finishReason"):
            answer.finish_reason = _FINISH[reason]
    usage = event["usageMetadata"]
    thoughts = usage.get("thoughtsTokenCount")
    given = {
        "input_tokens": usage["promptTokenCount"],
        "output_tokens": usage.get("candidatesTokenCount", 0) + (thoughts or 0),
        "reasoning_tokens": thoughts,
    }
    answer.usage = {name: count for name, count in given.items() if count is not None}


_READERS: dict[Api, Callable[[Answer, dict[str, Any]], None]] = {
    "openai-chat": _chat,
    "openai-responses": _responses,
    "anthropic": _anthropic,
    "google": _google,
    "openrouter": _chat,
    "groq": _chat,
}
