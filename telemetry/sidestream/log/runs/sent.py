"""Messages and settings that a request sent to its model, from the events of its own run."""

from __future__ import annotations

from typing import TypeAlias

from sidestream.events import Json, LLMEnd, LLMStart

from .tree import Sent

SentMessage: TypeAlias = dict[str, Json]
"""Message: `kind` (`request` or `response`, `missing` if not in the log) and `parts`, named as in pydantic-ai."""


def sent_of(start: LLMStart, prompt: Json, results: dict[str, Json]) -> Sent:
    """Sent messages of `start`, completed with content of other events: the prompt, and `results` of calls."""
    new = start.sent if isinstance(start.sent, list) else []
    return Sent(
        messages=start.messages,
        history=start.history or [],
        new=[_with_content(message, prompt, results) for message in new if isinstance(message, dict)],
        rewritten=bool(start.rewritten),
        instructions=start.instructions,
        tools=start.tools if isinstance(start.tools, list) else None,
        tools_digest=start.tools_digest,
        output_mode=start.output_mode,
        output_schema=start.output_schema if start.tools is None or isinstance(start.tools, list) else None,
        settings=start.settings,
        stop_sequences=start.stop_sequences,
    )


def _with_content(message: SentMessage, prompt: Json, results: dict[str, Json]) -> SentMessage:
    parts = message.get("parts")
    if not isinstance(parts, list):
        return message
    completed: list[Json] = []
    for part in parts:
        if isinstance(part, dict) and "as_in" in part:
            content = prompt if part["as_in"] == "agent_start" else results.get(str(part.get("tool_call_id")))
            part = {name: value for name, value in part.items() if name != "as_in"} | {"content": content}
        completed.append(part)
    return {**message, "parts": completed}


def details_of(end: LLMEnd) -> dict[int, dict[str, Json]]:
    """Recorded details of the answer's parts, by index of the part."""
    found: dict[int, dict[str, Json]] = {}
    for each in end.part_details if isinstance(end.part_details, list) else ():
        if isinstance(each, dict) and isinstance(index := each.get("part"), int):
            found[index] = {name: value for name, value in each.items() if name != "part"}
    return found
