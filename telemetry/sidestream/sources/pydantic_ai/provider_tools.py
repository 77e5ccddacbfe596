"""Tools executed by the provider: web search, code execution, file search, MCP servers.

They arrive as parts of the answer, a call and usually a return, and are logged like any other tool call. The arguments
may arrive whole, in deltas, or never, so a call is recorded once its part is complete.
"""

from __future__ import annotations

from typing import Any

from .run_state import RunState

CALL, RETURN = "builtin-tool-call", "builtin-tool-return"


def is_provider_tool(part: Any) -> bool:
    """Whether `part` is a call or a return of a provider tool."""
    return getattr(part, "part_kind", None) in (CALL, RETURN)


def names_of(part: Any) -> dict[str, Any]:
    """Tool name and call id of a provider tool's part; empty for other parts."""
    return {"tool_name": part.tool_name, "tool_call_id": part.tool_call_id} if is_provider_tool(part) else {}


def part_is_complete(state: RunState, part: Any) -> None:
    """Record the start or end of the provider tool call in `part`."""
    run = state.run
    if part.part_kind == CALL:
        args = state.content(part.args)
        state.provider_tools[part.tool_call_id] = run.tool_start(
            part.tool_name, part.tool_call_id, args, by_provider=True
        )
    elif part.part_kind == RETURN:
        span = state.provider_tools.pop(part.tool_call_id, None)
        if span is None:  # the call was part of an earlier answer
            span = run.tool_start(part.tool_name, part.tool_call_id, by_provider=True)
        run.tool_end(span, "ok", result=state.content(part.content), executed=state.request_streams)


def answer_is_complete(state: RunState) -> None:
    """Record the end of provider tool calls without a return."""
    for span in state.provider_tools.values():
        state.run.tool_end(span, "ok", executed=False)
    state.provider_tools.clear()
