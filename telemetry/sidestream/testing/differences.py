"""Comparison of a request with the logged one: messages, tools and instructions."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence

import msgspec

from sidestream.errors import SidestreamError
from sidestream.events import Json

SHOWN = 60
"""Lines of the difference shown in the error message."""
_COMPARED = ("part_kind", "tool_name", "tool_call_id", "content", "args")


class RequestDiffers(SidestreamError, AssertionError):
    """Request of a repeated run that differs from the logged one. The message shows the difference."""


def check(
    number: int,
    logged: Sequence[Json],
    sent: Sequence[Json],
    logged_tools: Json,
    tools: Json,
    logged_instructions: Json,
    instructions: Json,
) -> None:
    """Raises `RequestDiffers` if request `number` sends other messages, tools or instructions than logged."""
    found = [
        *_in_text("instructions", logged_instructions, instructions),
        *_in_messages(logged, sent),
        *_in_tools(logged_tools, tools),
    ]
    if found:
        more = [f"… {len(found) - SHOWN} more lines"] if len(found) > SHOWN else []
        lines = "\n".join([*found[:SHOWN], *more])
        raise RequestDiffers(f"request {number} differs from the logged one (- logged, + now):\n{lines}")


def _in_messages(logged: Sequence[Json], sent: Sequence[Json]) -> Iterator[str]:
    before, now = [_normalized(each) for each in logged], [_normalized(each) for each in sent]
    if len(before) != len(now):
        yield f"messages: {len(before)} logged, {len(now)} now"
    for index in range(max(len(before), len(now))):
        one = before[index] if index < len(before) else None
        other = now[index] if index < len(now) else None
        if one != other:
            kinds = ", ".join(str(part.get("part_kind")) for part in (other or one or {}).get("parts", []))
            yield from _in_json(f"message {index} ({kinds})", one, other)


def _normalized(message: Json) -> dict[str, Json]:
    """Normalized message with the fields that the model reads."""
    parts = message.get("parts") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(parts, list):
        return {"kind": "missing"}
    return {"kind": message.get("kind"), "parts": [_part(part) for part in parts if isinstance(part, dict)]}


def _part(part: dict[str, Json]) -> dict[str, Json]:
    normalized = {name: part[name] for name in _COMPARED if part.get(name) not in (None, "")}
    args = normalized.get("args")
    if isinstance(args, str):
        try:
            normalized["args"] = msgspec.json.decode(args)
        except msgspec.DecodeError:
            pass
    return normalized


def _in_tools(logged: Json, tools: Json) -> Iterator[str]:
    before, now = _by_name(logged), _by_name(tools)
    for name in [*before, *(name for name in now if name not in before)]:
        if name not in now:
            yield f"tool {name}: logged, and not there now"
        elif name not in before:
            yield f"tool {name}: new"
        else:
            yield from _in_json(f"tool {name}", before[name], now[name])


def _by_name(tools: Json) -> dict[str, Json]:
    return {str(tool.get("name")): tool for tool in tools if isinstance(tool, dict)} if isinstance(tools, list) else {}


def _in_text(what: str, logged: Json, now: Json) -> Iterator[str]:
    if (logged or "") != (now or ""):
        yield from _diff(what, str(logged or ""), str(now or ""))


def _in_json(what: str, logged: Json, now: Json) -> Iterator[str]:
    if logged != now:
        yield from _diff(what, _text(logged), _text(now))


def _text(value: Json) -> str:
    return "" if value is None else json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True, default=str)


def _diff(what: str, logged: str, now: str) -> Iterator[str]:
    yield f"{what}:"
    lines = difflib.unified_diff(logged.splitlines(), now.splitlines(), lineterm="", n=1)
    yield from (f"  {line}" for line in list(lines)[2:] if not line.startswith("@@"))
