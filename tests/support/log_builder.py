"""What the tests of log reading share: runs made of events, with known numbers in them, and logs made of runs."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings

from sidestream.events import (
    AgentEnd,
    AgentStart,
    AnyEvent,
    Error,
    FinalResult,
    LLMChunk,
    LLMEnd,
    LLMStart,
    Payload,
    Progress,
    Retry,
    StreamEvent,
    ToolEnd,
    ToolStart,
    Usage,
    encode_line,
    make_event,
)
from sidestream.log.reader import Problem

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""No example fails for its time: the machine may be busy."""
BEGIN = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


def chunk(*pieces: str, request: int = 1, part: int = 0, kind: Any = "text", **facts: Any) -> LLMChunk:
    """An `llm_chunk` of `pieces` that came 10 ms apart."""
    return LLMChunk(
        request=request,
        part=part,
        kind=kind,
        text="".join(pieces),
        lengths=[len(piece) for piece in pieces],
        offsets_us=[10_000 * number for number in range(len(pieces))],
        **facts,
    )


def sequence(
    payloads: Iterable[Payload], run_id: str, *, agent: str = "support", minutes: float = 0
) -> list[StreamEvent]:
    """`payloads` as the events of one run, a tenth of a second apart."""
    begun = BEGIN + timedelta(minutes=minutes)
    return [
        make_event(
            data,
            timestamp=begun + timedelta(seconds=seq / 10),
            offset=seq / 10,
            run_id=run_id,
            seq=seq,
            agent_name=agent,
        )
        for seq, data in enumerate(payloads)
    ]


def run_events(
    run_id: str,
    *,
    agent: str = "support",
    model: str = "gpt-4o",
    minutes: float = 0,
    ended: bool = True,
    **start: Any,
) -> list[StreamEvent]:
    """A run of two requests: the first calls a tool, which asks for another try; the second answers.

    400 tokens, 0.03 dollars, 16 events.
    """
    usage = Usage(input_tokens=150, output_tokens=50)
    request: dict[str, Any] = {"model": model, "provider": "openai"}
    end: dict[str, Any] = {
        **request,
        "outcome": "ok",
        "usage": usage,
        "usage_source": "provider",
        "cost_source": "override",
    }
    payloads: list[Payload] = [
        AgentStart(**{"root_run_id": run_id, "model": model, "prompt": f"prompt of {run_id}", **start}),
        LLMStart(request=1, streaming=True, messages=1, instructions="be brief", **request),
        chunk('{"order"', ': "4711"}', kind="tool_call", tool_name="look_up", tool_call_id="call_1"),
        LLMEnd(request=1, duration_seconds=0.2, cost_usd=0.01, time_to_first_token_seconds={"tool_call": 0.1}, **end),
        Progress(iteration=1, total_tokens=200, total_cost_usd=0.01),
        ToolStart(tool_name="look_up", tool_call_id="call_1", args={"order": "4711"}, attempt=1),
        Error(error="not found", exception_type="KeyError", where="tool", tool_name="look_up", tool_call_id="call_1"),
        ToolEnd(tool_name="look_up", tool_call_id="call_1", outcome="retry", duration_seconds=0.1, error="not found"),
        Retry(cause="model_retry", attempt=1, tool_name="look_up", tool_call_id="call_1", message="try again"),
        LLMStart(request=2, streaming=True, messages=3, **request),
        chunk("It ", "left ", "on Mon", request=2),
        chunk("day.", request=2),
        LLMEnd(request=2, duration_seconds=0.3, cost_usd=0.02, time_to_first_token_seconds={"text": 0.2}, **end),
        Progress(iteration=2, total_tokens=400, total_cost_usd=0.03),
        FinalResult(output_type="str", output="It left on Monday."),
        AgentEnd(
            outcome="completed",
            success=True,
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


def lines(events: Iterable[StreamEvent]) -> list[bytes]:
    """The lines of `events`, newlines included."""
    return [encode_line(event) for event in events]


def write(path: Path, events: Iterable[StreamEvent]) -> Path:
    """`events` as the file `path`, compressed if its name says so."""
    data = b"".join(lines(events))
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def plain(thing: Any) -> Any:
    """`thing` as JSON data, to be compared as a whole."""
    return msgspec.to_builtins(thing)


def keys(events: Iterable[AnyEvent | StreamEvent]) -> list[tuple[str, int]]:
    """Which events they are."""
    return [(event.run_id, event.seq) for event in events]


class Problems(list[Problem]):
    """Collects problems: an `on_problem`."""

    def __call__(self, problem: Problem) -> None:
        self.append(problem)

    def places(self) -> list[tuple[str, int, str]]:
        """File name, line and kind of each."""
        return [(Path(problem.file).name, problem.line, problem.kind) for problem in self]
