"""Helpers for log-reading tests: runs made of events with known numbers, and logs made of runs."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings

from sidestream.events import (
    AnyEvent,
    Error,
    FinalResult,
    Payload,
    Progress,
    Retry,
    StreamEvent,
    ToolEnd,
    ToolStart,
    Usage,
    encode_line,
)
from sidestream.events.scores import checked_score, score_event
from sidestream.log.reader import Problem
from tests.support.run_events import answer, ask, chunk, end, event_log, start

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Hypothesis settings without time limits, since the machine may be busy."""
BEGIN = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


def sequence(
    payloads: Iterable[Payload], run_id: str, *, agent: str = "support", minutes: float = 0
) -> list[StreamEvent]:
    """Events of one run made from `payloads`, 0.1 seconds apart."""
    return event_log(run_id, *payloads, agent=agent, began=BEGIN + timedelta(minutes=minutes), gap=0.1)


def run_events(
    run_id: str,
    *,
    agent: str = "support",
    model: str = "gpt-4o",
    minutes: float = 0,
    ended: bool = True,
    **started: Any,
) -> list[StreamEvent]:
    """Run of two requests: the first calls a tool, which requests a retry; the second answers.

    400 tokens, 0.03 dollars, 16 events.
    """
    usage = Usage(input_tokens=150, output_tokens=50)
    answered: dict[str, Any] = {"model": model, "streaming": None, "usage": usage, "cost_source": "override"}
    payloads: list[Payload] = [
        start(run_id, **{"model": model, "prompt": f"prompt of {run_id}", **started}),
        ask(1, model=model, messages=1, instructions="be brief"),
        chunk('{"order"', ': "4711"}', kind="tool_call", tool_name="look_up", tool_call_id="call_1"),
        answer(1, duration_seconds=0.2, cost_usd=0.01, time_to_first_token_seconds={"tool_call": 0.1}, **answered),
        Progress(iteration=1, total_tokens=200, total_cost_usd=0.01),
        ToolStart(tool_name="look_up", tool_call_id="call_1", args={"order": "4711"}, attempt=1),
        Error(error="not found", exception_type="KeyError", where="tool", tool_name="look_up", tool_call_id="call_1"),
        ToolEnd(tool_name="look_up", tool_call_id="call_1", outcome="retry", duration_seconds=0.1, error="not found"),
        Retry(cause="model_retry", attempt=1, tool_name="look_up", tool_call_id="call_1", message="try again"),
        ask(2, model=model, messages=3),
        chunk("It ", "left ", "on Mon", request=2),
        chunk("day.", request=2),
        answer(2, duration_seconds=0.3, cost_usd=0.02, time_to_first_token_seconds={"text": 0.2}, **answered),
        Progress(iteration=2, total_tokens=400, total_cost_usd=0.03),
        FinalResult(output_type="str", output="It left on Monday."),
        end(
            duration_seconds=1.5,
            total_iterations=2,
            total_tokens=400,
            tool_calls=1,
            retries=1,
            usage=Usage(input_tokens=300, output_tokens=100),
            cost_usd=0.03,
        ),
    ]
    return sequence(payloads if ended else payloads[:-1], run_id, agent=agent, minutes=minutes)


def scored(
    run_id: str,
    name: str,
    value: bool | float | None = None,
    *,
    minutes: float = 0,
    agent: str = "support",
    **more: Any,
) -> StreamEvent:
    """Score of the run, `minutes` after `BEGIN`."""
    score = checked_score(name, value, **more)
    return score_event(run_id, score, agent_name=agent, timestamp=BEGIN + timedelta(minutes=minutes))


def lines(events: Iterable[StreamEvent]) -> list[bytes]:
    """Encoded lines of `events`, with newlines."""
    return [encode_line(event) for event in events]


def write(path: Path, events: Iterable[StreamEvent]) -> Path:
    """Write `events` to the file `path`, compressed according to its name."""
    data = b"".join(lines(events))
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def plain(thing: Any) -> Any:
    """JSON data of `thing`, for comparisons."""
    return msgspec.to_builtins(thing)


def keys(events: Iterable[AnyEvent | StreamEvent]) -> list[tuple[str, int]]:
    """Run ids and sequence numbers of the events."""
    return [(event.run_id, event.seq) for event in events]


class Problems(list[Problem]):
    """List of problems; callable as `on_problem`."""

    def __call__(self, problem: Problem) -> None:
        self.append(problem)

    def places(self) -> list[tuple[str, int, str]]:
        """File name, line and kind of each problem."""
        return [(Path(problem.file).name, problem.line, problem.kind) for problem in self]
