"""Tool calls: records of starts, refusals, results and failures."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ValidationError
from pydantic_ai import ModelRetry
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, SkipToolExecution, ToolFailedError, ToolRetryError

from sidestream.events import ToolOutcome
from sidestream.recording.failure import Failure
from sidestream.recording.snapshot import pack

from .run_state import RunState


def tool_invalid(state: RunState | None, ctx: Any, call: Any, error: Exception) -> None:
    """Record a call with invalid arguments, which is never executed."""
    if state is not None:
        state.settled.add(call.tool_call_id)
        run = state.run
        span = run.tool_start(call.tool_name, call.tool_call_id, state.content(call.args), ctx.retry + 1)
        run.tool_end(span, "invalid", failure=Failure.of(error), executed=False)


def tool_start(state: RunState, ctx: Any, call: Any, args: Any) -> int:
    """Record the start of a call; returns the number of its span."""
    state.settled.add(call.tool_call_id)
    packed = pack(args) if state.recorder.wants_content else None
    return state.run.tool_start(call.tool_name, call.tool_call_id, packed, ctx.retry + 1)


def tool_done(state: RunState, span: int, result: Any) -> None:
    """Record the result of the call `span`."""
    state.run.tool_end(span, "ok", result=pack(result) if state.recorder.wants_content else None)


def tool_failed(state: RunState, span: int, call: Any, error: BaseException) -> None:
    """Record the end of the call `span` that raised `error`."""
    run = state.run
    outcome: ToolOutcome
    match error:
        case asyncio.CancelledError() if not _is_cancelled():  # raised by a cancel scope of a library
            state.leaked = Failure.of(error)
            outcome = "failed"
        case asyncio.CancelledError() | GeneratorExit():
            run.tool_end(span, "cancelled")
            return
        case SkipToolExecution():
            run.tool_end(span, "skipped", result=state.content(error.result))
            return
        case CallDeferred() | ApprovalRequired():
            run.tool_end(span, "deferred")
            return
        case ToolRetryError() | ModelRetry() | ValidationError():
            outcome = "retry"
        case _:
            outcome = "failed"
    raised = outcome == "failed" and not isinstance(error, ToolFailedError)
    failure = Failure.traced(error) if raised else Failure.of(error)
    run.tool_end(span, outcome, failure=failure)
    if raised:
        run.error(failure, "tool", identity=id(error), tool_name=call.tool_name, tool_call_id=call.tool_call_id)


def _is_cancelled() -> bool:
    """Whether the current task has been cancelled."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
