"""Data of a run's page, for the served page and the standalone file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from sidestream.events import LLMEnd, verdict_of
from sidestream.log import Located, RunLog, Step

from .waterfall import MAX_ROWS, Identified, Waterfall, duration, identified, waterfall
from .wording import visible

MAX_TEXT = 100_000
"""Most characters of a text on a served page. The events page has the whole text."""
FOLDED_TEXT = 1_200
"""Characters beyond which a text starts collapsed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Failed step with its HTML id."""

    id: str
    step: Step
    agent_name: str | None


@dataclass(frozen=True, slots=True)
class Share:
    """Share of a run's time. `left` and `width` are its position on the bar in percent."""

    name: str
    seconds: float
    meaning: str
    left: float
    width: float


@dataclass(frozen=True, slots=True)
class RunPage:
    """Data that the templates show of one run."""

    log: RunLog
    first_token_seconds: float | None
    """Time to the first token of the first request, available from its first delta on; None if unknown."""
    waterfall: Waterfall
    failures: list[Failure]
    requests: list[tuple[str, RunLog, Step]]
    """Model requests of the run and its sub-agents, with their ids."""
    latency: list[Share]
    """Breakdown of the run's own time."""
    timing: dict[str, Any]
    """Times for the player, in seconds: start of each step, and arrival and length of each text delta."""


def run_page(log: RunLog, *, rows: int | None = MAX_ROWS) -> RunPage:
    """Page data of `log`; `rows` as for `waterfall`."""
    drawn = waterfall(log, rows=rows)
    every = list(identified(log))
    shown = [each for each in every if each.id in drawn.shown]
    return RunPage(
        log=log,
        first_token_seconds=_first_token(log),
        waterfall=drawn,
        failures=[Failure(each.id, each.step, each.run.summary.agent_name) for each in _failed(every)],
        requests=[(each.id, each.run, each.step) for each in shown if each.step.kind == "request"],
        latency=_latency(log),
        timing={
            "seconds": duration(log),
            "steps": {each.id: round(each.run.start + each.step.start, 6) for each in shown},
            "ends": {
                each.id: round(each.run.start + each.step.start + each.step.duration_seconds, 6)
                for each in shown
                if each.step.kind in ("tool", "run") and each.step.duration_seconds is not None
            },
            "texts": {
                f"{each.id}-{number}": {
                    "at": [round(each.run.start + delta.at, 4) for delta in part.deltas],
                    "lengths": [len(visible(delta.text or "")) for delta in part.deltas],
                }
                for each in shown
                if each.step.kind == "request"
                for number, part in enumerate(each.step.parts)
            },
        },
    )


def _failed(every: list[Identified]) -> list[Identified]:
    """Failed tool calls and errors; the error of a failed tool call is one failure with it."""
    tools = [each.step for each in every if each.step.kind == "tool" and verdict_of(each.step.outcome) == "fault"]
    failed = {id(tool) for tool in tools}
    repeated = {
        id(step) for tool in tools for step in tool.children if step.kind == "error" and step.error == tool.error
    }
    errors = {id(each.step) for each in every if each.step.kind == "error"} - repeated
    return [each for each in every if id(each.step) in failed | errors]


def _first_token(log: RunLog) -> float | None:
    first = next((step for step in log.steps if step.kind == "request" and step.request == 1), None)
    return log.summary.time_to_first_token_seconds or (first.time_to_first_token_seconds if first else None)


def _latency(log: RunLog) -> list[Share]:
    """Shares of the run's time by its own steps; empty without known times. Overlapping tools count once."""
    ends = [each.event.data for each in log.events if isinstance(each.event.data, LLMEnd)]
    waits = [min(end.time_to_first_token_seconds.values()) for end in ends if end.time_to_first_token_seconds]
    streamed = [
        end.duration_seconds - min(end.time_to_first_token_seconds.values()) - (end.consumer_hold_seconds or 0.0)
        for end in ends
        if end.time_to_first_token_seconds
    ]
    tools = sorted(
        (step.start, step.start + step.duration_seconds)
        for step in log.steps
        if step.kind == "tool" and step.duration_seconds is not None
    )
    known = [
        ("Waiting", sum(waits), "for the first token of each model request"),
        ("Generating", max(0.0, sum(streamed)), "from the first token to the end of each request"),
        ("Consumer", sum(end.consumer_hold_seconds or 0.0 for end in ends), "that held the stream between two events"),
        ("In tools", _covered(tools), "in at least one tool call"),
    ]
    shares = [each for each in known if each[1] > 0]
    rest = (log.summary.duration_seconds or 0.0) - sum(taken for _, taken, _ in shares)
    if shares and rest >= 0.001:
        shares.append(("Other", rest, "between these steps, or of requests that were not streamed"))
    total, left = sum(taken for _, taken, _ in shares), 0.0
    made = []
    for name, taken, meaning in shares:
        made.append(Share(name, taken, meaning, left, 100 * taken / total))
        left += 100 * taken / total
    return made


def _covered(spans: list[tuple[float, float]]) -> float:
    """Seconds covered by the union of sorted `spans`."""
    covered, reached = 0.0, float("-inf")
    for begin, end in spans:
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return covered


def all_events(log: RunLog) -> list[Located]:
    """Events of a run and its sub-agents, in chronological order."""
    timed = [
        (run.start + located.event.offset, run.start, located.event.seq, located)
        for run in log.runs()
        for located in run.events
    ]
    return [located for *_, located in sorted(timed, key=lambda each: each[:3])]


def gist(located: Located) -> str:
    """Short description of an event: names, model, outcome or text."""
    data = located.event.data
    named = [data.get(name) for name in ("name", "tool_name", "model", "outcome", "cause", "exception_type", "text")]
    return " · ".join(each[:120] for each in named if isinstance(each, str))


def as_line(located: Located) -> bytes:
    """Event as one line of JSONL."""
    return msgspec.json.encode(located.event) + b"\n"


def as_json(located: Located) -> str:
    """Event as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(located.event), indent=2).decode()
