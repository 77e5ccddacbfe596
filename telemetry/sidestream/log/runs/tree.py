"""One run, whole: its steps as a tree with their times, what was said, what was used, and its sub-agents within.

A step is a model request, a tool call, a sub-agent's run, a retry, an error, the application's own event, or the final
result. Times are seconds on the clock of the run they belong to; `RunLog.start` sets a sub-agent's clock by the root's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from sidestream.events import AnyEvent, ChunkKind, Frame, History, Json, Raised, ScoreEvent, Usage

from .summary import RunSummary

StepKind: TypeAlias = Literal["request", "tool", "run", "retry", "error", "custom", "final_result"]


class Located(msgspec.Struct, frozen=True, gc=False):
    """An event, and where it stands."""

    event: AnyEvent
    file: str
    line: int


class Delta(msgspec.Struct, frozen=True, gc=False):
    """One piece of a streamed answer, as it came."""

    at: float
    """Seconds after the start of the run."""
    text: str | None
    """None where the content policy kept it out."""


class Part(msgspec.Struct, kw_only=True):
    """One part of an answer: a text, a thought, or the arguments of a tool call."""

    index: int | None
    kind: ChunkKind
    part_kind: str | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    text: str | None = None
    """The deltas, joined; None where the content policy kept them out."""
    whole: Json = None
    """Of kind `other`: what came in one piece, and may be no text."""
    deltas: list[Delta] = []


class Sent(msgspec.Struct, kw_only=True):
    """What a request sent to its model, as far as the log knows: see `sent_messages` for all of it."""

    messages: int | None = None
    """How many messages."""
    history: list[History] = []
    """Those that stand elsewhere in the log."""
    new: list[Json] = []
    """The others, in order, each a dict with `kind` and `parts`."""
    rewritten: bool = False
    """Whether messages of the request before are gone or have changed."""
    instructions: Json = None
    """Where they are new; likewise the tools."""
    tools: Json = None
    tools_digest: str | None = None
    output_mode: str | None = None
    output_schema: Json = None
    settings: dict[str, Json] | None = None


class Step(msgspec.Struct, kw_only=True):
    """One thing that happened in a run. What is not known, or does not apply, is None."""

    kind: StepKind
    name: str
    """The model, the tool, the agent, the cause of the retry, the type of the exception, the custom event's name."""
    seq: int
    """Of its first event."""
    start: float
    """Seconds after the start of the run."""
    duration_seconds: float | None = None
    """None for what takes no time, and where the end is not in the log."""
    outcome: str | None = None
    """As in `llm_end`, `tool_end` or `agent_end`; None where the end is not in the log."""
    request: int | None = None
    """Number of the request: 1 for the first."""
    tool_call_id: str | None = None
    attempt: int | None = None
    provider: str | None = None
    streaming: bool | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    unpriced: bool = False
    usage_is_lower_bound: bool = False
    cost_is_lower_bound: bool = False
    time_to_first_token_seconds: float | None = None
    exception_type: str | None = None
    where: str | None = None
    """Of an error: `model`, `tool`, `output` or `run`."""
    input: Json = None
    """Content: a request's instructions (where they are new), a tool call's arguments, a sub-agent's prompt."""
    output: Json = None
    """Content: a tool's result, the final result, the message to the model in a retry, a custom event's payload."""
    error: Json = None
    """Content: the text of what failed."""
    sent: Sent | None = None
    """Of a request."""
    parts: list[Part] = []
    """Of a request: the answer."""
    part_details: dict[int, dict[str, Json]] = {}
    """Of a request: what is known of the answer's parts beside their content, by index."""
    frames: list[Frame] = []
    """Of an error, and of the request or tool that raised it: the calls that it went through, the innermost last."""
    chain: list[Raised] = []
    """Likewise: what it was raised from, or is a group of."""
    children: list[Step] = []
    """What happened within it, in order."""
    run: RunLog | None = None
    """Of a sub-agent."""


class RunLog(msgspec.Struct, kw_only=True):
    """Everything the log holds of one run."""

    summary: RunSummary
    start: float = 0.0
    """Seconds after the start of the root run that was loaded; 0 for itself."""
    prompt: Json = None
    output: Json = None
    steps: list[Step] = []
    """In order of their start."""
    events: list[Located] = []
    """This run's own, in order of `seq`, each once."""
    scores: list[ScoreEvent] = []
    """What was thought of it, in order of time, earlier scores of the same name included."""

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from sidestream.log.html import run_html

        return run_html(self)

    def walk(self) -> Iterator[tuple[int, RunLog, Step]]:
        """Every step with its depth and its run, sub-agents' steps included, in order."""
        yield from _walk(self, self.steps, 0)

    def runs(self) -> Iterator[RunLog]:
        """This run, and every sub-agent's run below it."""
        yield self
        for _, _, step in self.walk():
            if step.run is not None:
                yield step.run

    def messages(self) -> list[Message]:
        """The conversation, as it was streamed: this run's own, without its sub-agents'."""
        return _messages(self)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a conversation."""

    role: Literal[
        "instructions", "user", "assistant", "thinking", "tool_call", "tool_result", "retry", "error", "output"
    ]
    at: float
    """Seconds after the start of the run: of an answer, of its first piece."""
    content: Json
    """None where the content policy kept it out."""
    name: str | None = None
    """The model or the tool."""
    tool_call_id: str | None = None
    outcome: str | None = None
    deltas: list[Delta] = []
    """Of what was streamed."""


def _walk(run: RunLog, steps: list[Step], depth: int) -> Iterator[tuple[int, RunLog, Step]]:
    for step in steps:
        yield depth, run, step
        yield from _walk(run, step.children, depth + 1)
        if step.run is not None:
            yield from _walk(step.run, step.run.steps, depth + 1)


def _messages(run: RunLog) -> list[Message]:
    messages = [Message(role="user", at=0.0, content=run.prompt)]
    for _, owner, step in run.walk():
        if owner is not run:
            continue
        match step.kind:
            case "request":
                if step.input is not None:
                    messages.append(Message(role="instructions", at=step.start, content=step.input))
                messages += [_said(step, part) for part in step.parts]
            case "tool":
                end = step.start + (step.duration_seconds or 0.0)
                messages.append(
                    Message(
                        role="tool_result",
                        at=end,
                        content=step.output if step.error is None else step.error,
                        name=step.name,
                        tool_call_id=step.tool_call_id,
                        outcome=step.outcome,
                    )
                )
            case "retry":
                messages.append(Message(role="retry", at=step.start, content=step.output, name=step.name))
            case "error":
                messages.append(Message(role="error", at=step.start, content=step.error, name=step.name))
            case "final_result":
                messages.append(Message(role="output", at=step.start, content=step.output))
            case _:
                pass
    # A request's instructions come before the prompt that it answers.
    return sorted(messages, key=lambda message: (message.at, message.role != "instructions"))


_ROLES: dict[str, Literal["assistant", "thinking", "tool_call"]] = {"thinking": "thinking", "tool_call": "tool_call"}


def _said(step: Step, part: Part) -> Message:
    return Message(
        role=_ROLES.get(part.kind, "assistant"),
        at=part.deltas[0].at if part.deltas else step.start,
        content=part.text,
        name=part.tool_name or step.name,
        tool_call_id=part.tool_call_id,
        deltas=part.deltas,
    )
