"""Messages of a run in the format of the GenAI conventions, each exported once.

A chat span carries the messages that are new since the previous request: the prompt first, then tool results and
retries. With the whole history on every span, a run's telemetry would grow with the square of its length.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from sidestream.events import Error, Json, LLMChunk, LLMEnd, LLMStart, Retry, ToolEnd
from sidestream.events.traceback import traceback_lines
from sidestream.recording.content import ContentPolicy
from sidestream.recording.snapshot import snapshot

from .semantic_conventions import SemanticConventions

TEXT_LIMIT = 1_000_000
"""Most characters of one text. Servers accept a few megabytes per request, and would refuse the batch."""

Message = dict[str, Any]


@dataclass(slots=True)
class Part:
    """Part of a response, accumulated from its chunks."""

    kind: str
    tool_name: str | None
    tool_call_id: str | None
    texts: list[str] = field(default_factory=list)
    room: int = TEXT_LIMIT
    """Characters that still fit; negative once text was cut."""
    whole: Json = None
    """Content that is not text, as of the last chunk; None for a text part."""

    def add(self, text: Json) -> None:
        if isinstance(text, str):
            if text and self.room >= 0:
                fits = len(text) <= self.room
                self.texts.append(text if fits else f"{text[: self.room]}…")
                self.room = self.room - len(text) if fits else -1
        elif isinstance(self.whole, dict) and isinstance(text, dict) and "length" in self.whole and "length" in text:
            self.whole = {**self.whole, "length": self.whole["length"] + text["length"]}
        elif text is not None:
            self.whole = text

    def message(self) -> Message:
        content = "".join(self.texts) if self.texts else self.whole
        match self.kind:
            case "tool_call":
                return {"type": "tool_call", "id": self.tool_call_id, "name": self.tool_name, "arguments": content}
            case "thinking":
                return {"type": "reasoning", "content": content}
            case "text":
                return {"type": "text", "content": content}
        return {"type": "generic", "content": content}


@dataclass(slots=True)
class Answer:
    """Response of one request, accumulated from chunks."""

    limit: int
    parts: dict[int, Part] = field(default_factory=dict)

    def add(self, data: LLMChunk) -> None:
        if data.text is None:
            return
        part = self.parts.get(data.part or 0)
        if part is None:
            part = Part(data.kind, data.tool_name, data.tool_call_id, room=self.limit)
            self.parts[data.part or 0] = part
        part.add(data.text)

    def messages(self, data: LLMEnd) -> list[Message]:
        if not self.parts:
            return []
        fallback = "stop" if data.outcome == "ok" else "error"
        parts = [self.parts[index].message() for index in sorted(self.parts)]
        return [{"role": "assistant", "parts": parts, "finish_reason": data.finish_reason or fallback}]


def text_limit(policy: ContentPolicy) -> int:
    """Most characters of one part. The policy truncates each chunk, not the part that the chunks make."""
    return min(policy.limit, TEXT_LIMIT) if policy.mode == "truncated" else TEXT_LIMIT


def prompt_message(prompt: Json) -> Message:
    return {"role": "user", "parts": [_text(item) for item in (prompt if isinstance(prompt, list) else [prompt])]}


def output_message(output: Json) -> Message:
    return {"role": "assistant", "parts": [_text(output)], "finish_reason": "stop"}


def texts_of(value: Json) -> list[str] | None:
    """`value` if it is a list of texts; None if the content policy has replaced it."""
    return [str(each) for each in value] if isinstance(value, list) else None


def result_message(data: ToolEnd) -> Message | None:
    return None if data.result is None else _response(data.tool_call_id, data.result)


def retry_message(data: Retry) -> Message | None:
    if data.message is None:
        return None
    if data.tool_call_id is not None:
        return _response(data.tool_call_id, data.message)
    return {"role": "user", "parts": [_text(data.message)]}


def instructions_json(names: SemanticConventions, data: LLMStart) -> dict[str, str]:
    return {} if data.instructions is None else {names.instructions: as_json([_text(data.instructions)])}


def tools_json(names: SemanticConventions, data: LLMStart) -> dict[str, str]:
    """Attribute with the tool definitions; empty if the event does not hold them."""
    if not isinstance(data.tools, list):
        return {}
    tools = [
        {"type": "function" if tool.get("kind") == "output" else tool.get("kind"), **_without_kind(tool)}
        for tool in data.tools
        if isinstance(tool, dict)
    ]
    return {names.tool_definitions: as_json(tools)} if tools else {}


def tool_descriptions(data: LLMStart) -> dict[str, str]:
    """Descriptions of the offered tools, by tool name; empty if the event does not hold them."""
    tools = data.tools if isinstance(data.tools, list) else []
    return {
        name: description
        for tool in tools
        if isinstance(tool, dict)
        and isinstance(name := tool.get("name"), str)
        and isinstance(description := tool.get("description"), str)
    }


def _without_kind(tool: dict[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in tool.items() if name != "kind"}


def input_messages(data: LLMStart, reconstructed: list[Message]) -> list[Message]:
    """New messages of a request: the ones sent, or `reconstructed` if the event does not list them (a tapped stream).

    Args:
        data: Start of the request.
        reconstructed: Messages reconstructed from other events since the previous request.
    """
    if not isinstance(data.sent, list):
        return reconstructed
    found: list[Message] = []
    for message in data.sent:
        parts = message.get("parts") if isinstance(message, dict) else None
        if not isinstance(parts, list):
            continue
        parts = [part for part in parts if isinstance(part, dict)]
        if message.get("kind") == "response":
            found.append({"role": "assistant", "parts": [_answer_part(part) for part in parts]})
        else:
            found += [each for part in parts if (each := _request_part(part, data, reconstructed)) is not None]
    return found


def _request_part(part: dict[str, Json], data: LLMStart, reconstructed: list[Message]) -> Message | None:
    kind, call, content = part.get("part_kind"), part.get("tool_call_id"), part.get("content")
    if "as_in" in part:
        is_answer = kind == "tool-return"
        return next(
            (each for each in reconstructed if (_call_of(each) == call if is_answer else each["role"] == "user")), None
        )
    if kind == "system-prompt":
        in_instructions = isinstance(data.instructions, str) and str(content) in data.instructions
        return None if in_instructions else {"role": "system", "parts": [_text(content)]}
    if isinstance(call, str):
        return _response(call, content)
    return {"role": "user", "parts": [_text(item) for item in (content if isinstance(content, list) else [content])]}


def _call_of(message: Message) -> Json:
    return message["parts"][0].get("id") if message["role"] == "tool" else None


def _answer_part(part: dict[str, Json]) -> Message:
    match part.get("part_kind"):
        case "tool-call" | "builtin-tool-call":
            names = {"id": part.get("tool_call_id"), "name": part.get("tool_name")}
            return {"type": "tool_call", **names, "arguments": part.get("args")}
        case "thinking":
            return {"type": "reasoning", "content": part.get("content")}
    return _text(part.get("content"))


def stacktrace(data: Error) -> str | None:
    """Traceback of an error in Python's format, without values; None if the event has no frames."""
    if not data.frames and not data.chain:
        return None
    return "\n".join(traceback_lines(data.exception_type, data.error, data.frames or (), data.chain or ()))


def as_json(value: Json) -> str:
    """JSON of `value`, with strings truncated to `TEXT_LIMIT`."""
    try:
        return msgspec.json.encode(_cut(value)).decode()
    except Exception:  # values of a handmade event that JSON cannot represent: lone surrogates, cycles
        return msgspec.json.encode(
            str(snapshot(value)).encode("utf-8", "backslashreplace")[:TEXT_LIMIT].decode()
        ).decode()


def as_text(value: Json) -> str:
    """Text unchanged but for `TEXT_LIMIT`, any other value as JSON."""
    return str(_cut(value)) if isinstance(value, str) else as_json(value)


def _text(value: Json) -> Message:
    return {"type": "text" if isinstance(value, str) else "generic", "content": value}


def _response(tool_call_id: str | None, content: Json) -> Message:
    return {"role": "tool", "parts": [{"type": "tool_call_response", "id": tool_call_id, "response": content}]}


def _cut(value: Json) -> Json:
    if isinstance(value, str):
        return value if len(value) <= TEXT_LIMIT else f"{value[:TEXT_LIMIT]}… (+{len(value) - TEXT_LIMIT} characters)"
    if isinstance(value, list):
        return [_cut(item) for item in value]
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    return value
