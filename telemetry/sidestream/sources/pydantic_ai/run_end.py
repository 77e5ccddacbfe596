"""End of a run: the outcome, and the records of interrupted requests."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic_ai import DeferredToolRequests
from pydantic_ai.messages import ModelResponse

from sidestream.events import RequestOutcome, RunOutcome
from sidestream.recording.failure import Failure
from sidestream.recording.pricing import Cost, price_list_version
from sidestream.recording.response import NOTHING_KNOWN, ResponseFacts
from sidestream.sources.time_limits import is_timed_out

from . import caller_exit, compat, convert
from .event_streams import deferred
from .model_requests import answer_message, response_facts
from .run_state import RunState


def close_run(state: RunState, ctx: Any, result: Any, error: BaseException | None) -> None:
    """Record the end of a run that returned `result` or raised `error`."""
    run = state.run
    outcome: RunOutcome = "completed" if error is None else _outcome(state, ctx, error)
    state.safely(_end_interrupted, state, result, outcome)
    if getattr(ctx, "realtime", False):
        state.safely(_session_used, state, ctx, "ok" if error is None else "cancelled")
    if error is None:
        if result is not None:
            if isinstance(result.output, DeferredToolRequests):  # `run_stream()` emits no event for them
                state.safely(deferred, state, result.output)
            run.final_result(state.content(result.output), type(result.output).__name__)
        run.end(outcome)
        return
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        # An error is already recorded by the part of the run that failed.
        run.end(outcome, _failure_behind(state) if outcome == "error" else None)
        return
    failure = Failure.traced(error) if outcome == "error" else Failure.of(error)
    if outcome == "error":
        run.error(failure, "run", identity=id(error))
    run.end(outcome, failure)


def _session_used(state: RunState, ctx: Any, outcome: RequestOutcome) -> None:
    """Record the usage of a realtime session as one request, because a session has no requests of its own."""
    used = convert.usage(ctx.usage)
    if used is None:
        return
    usd = getattr(ctx.usage, "cost", None)
    cost = None if usd is None else Cost(usd, "genai-prices", price_list_version())
    model = convert.model_name(ctx.model) or "unknown"
    request = state.run.request(
        model=model, provider=getattr(ctx.model, "system", None), streaming=True, at=state.run.started_ns
    )
    facts = ResponseFacts(
        usage=used,
        usage_source="provider" if outcome == "ok" else "partial",
        cost=cost,
        unpriced=cost is None,
        response_model=model,
    )
    request.end(outcome, facts)


def _outcome(state: RunState, ctx: Any, error: BaseException) -> RunOutcome:
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return _stopped(state, ctx)
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "cancelled"
    return "abandoned" if state.consumer_raised and not state.run.knows(error) else "error"


def _stopped(state: RunState, ctx: Any) -> RunOutcome:
    """Outcome of a run that was stopped from outside.

    `on_run_error` distinguishes a cancellation from a leaving consumer, except in three cases: a task cancelled before
    its first await, an interrupted program (`asyncio.run` cancels every task), and a program that caught the provider's
    error and left the stream.
    """
    cancelled = caller_exit.is_cancelled(state.caller, state.leaving)
    if _failure_behind(state) is not None and not cancelled:
        return "error"
    if state.leaving or not (state.failed or cancelled):
        return "abandoned"
    own_limit = compat.own_limit_expired(ctx)
    limited = any(map(is_timed_out, (state.caller, state.consumer)))
    return "timed_out" if own_limit or limited else "cancelled"


def _end_interrupted(state: RunState, result: Any, run_outcome: RunOutcome) -> None:
    if not state.interrupted:
        return
    messages = result.all_messages() if result is not None else state.messages
    partial = [
        message
        for message in messages
        if isinstance(message, ModelResponse)
        and message.run_id == state.run.run_id
        and message.state in ("interrupted", "suspended")
    ]
    for request, at in state.interrupted:
        response = partial.pop(0) if partial else None
        facts = response_facts(state, request, response, partial=True) if response else NOTHING_KNOWN
        left = run_outcome in ("abandoned", "completed")
        outcome: RequestOutcome = "error" if request.failure else "interrupted" if left else "cancelled"
        request.end(outcome, facts, at=at, answer=answer_message(state, response) if response else None)
    state.interrupted.clear()


def _failure_behind(state: RunState) -> Failure | None:
    """Failure before the run was stopped from outside: in the provider's stream, or a cancellation raised by a tool."""
    broken = state.request.failure if state.request is not None else None
    return broken or state.leaked
