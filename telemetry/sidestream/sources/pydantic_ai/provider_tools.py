"""Tools that the provider executes itself: web search, code execution, file search, its MCP servers.

They come as parts of the answer, a call and mostly a return, and are tool calls like any other in the log. Arguments
may come whole, in deltas, or never, so a call is recorded once its part is complete.
"""

from __future__ import annotations

from typing import Any

from .run_state import RunState

CALL, RETURN = "builtin-tool-call", "builtin-tool-return"


def is_provider_tool(part: Any) -> bool:
    """Whether `part` is the call of such a tool, or what it returned."""
    return getattr(part, "part_kind", None) in (CALL, RETURN)


def names_of(part: Any) -> dict[str, Any]:
    """Name and call id of such a tool; nothing for another part."""
    return {"tool_name": part.tool_name, "tool_call_id": part.tool_call_id} if is_provider_tool(part) else {}


def part_is_complete(state: RunState, part: Any) -> None:
    """Takes up the call, or ends it, that `part` is."""
    run = state.run
    if part.part_kind == CALL:
        args = state.content(part.args)
        state.provider_tools[part.tool_call_id] = run.tool_start(
            part.tool_name, part.tool_call_id, args, by_provider=True
        )
    elif part.part_kind == RETURN:
        span = state.provider_tools.pop(part.tool_call_id, None)
        if span is None:  # its call was in an answer before
            span = run.tool_start(part.tool_name, part.tool_call_id, by_provider=True)
        run.tool_end(span, "ok", result=state.content(part.content), executed=state.request_streams)


def answer_is_complete(state: RunState) -> None:
    """Ends the calls of which the provider does not say what they returned."""
    for span in state.provider_tools.values():
        state.run.tool_end(span, "ok", executed=False)
    state.provider_tools.clear()
