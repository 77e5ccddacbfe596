"""Outcomes of runs, requests and tool calls: the meaning and the verdict of each.

Console, commands, pages, spans, metrics and boards all derive colours and counts from `verdict_of`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Verdict: TypeAlias = Literal["ok", "neutral", "caller", "fault"]
"""Assessment of an outcome.

`ok`: success. `neutral`: no result yet, and no failure, because the run continues or ends otherwise. `caller`: ended by
the caller's decision. `fault`: a failure.
"""


class Outcome(NamedTuple):
    """Verdict and meaning of one outcome of a run, a request or a tool call."""

    verdict: Verdict
    meaning: str


OUTCOMES: dict[str, Outcome] = {
    # runs
    "completed": Outcome("ok", "the run returned its result"),
    "error": Outcome("fault", "a provider, a tool or the program failed"),
    "cancelled": Outcome("caller", "the caller cancelled the run, or the program was interrupted"),
    "timed_out": Outcome("fault", "a time limit expired"),
    "abandoned": Outcome("caller", "the consumer left before the end"),
    "lost": Outcome("fault", "the writing process ended before the run; assigned by readers only"),
    "running": Outcome("neutral", "the run is in progress; assigned by readers only"),
    # requests
    "ok": Outcome("ok", "the answer, or the tool's result, is complete"),
    "interrupted": Outcome("caller", "the consumer left in mid-stream"),
    "skipped": Outcome("neutral", "answered without the model, or the tool was not needed any more"),
    "retry": Outcome("neutral", "sent back to the model for another attempt"),
    # tools
    "failed": Outcome("fault", "the tool raised"),
    "deferred": Outcome("neutral", "left to the application, or waiting for approval"),
    "denied": Outcome("caller", "the approval was refused"),
    "invalid": Outcome("neutral", "the arguments are invalid; the model is asked again"),
    "unknown": Outcome("neutral", "the tool does not exist; the model is asked again"),
}


def verdict_of(outcome: str | None) -> Verdict:
    """Verdict on `outcome`; `neutral` if the outcome is unknown or None."""
    known = OUTCOMES.get(outcome or "")
    return known.verdict if known is not None else "neutral"
