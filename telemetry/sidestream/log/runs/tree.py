"""Whole run as a tree of steps, with times, content, usage, and the runs of its sub-agents.

A step is a model request, a tool call, a sub-agent's run, a retry, an error, a custom event, or the final result. Times
are seconds since the start of the step's own run; `RunLog.start` is the offset of a sub-agent's run from the root run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from sidestream.events import AnyEvent, ChunkKind, Frame, History, Json, Raised, ScoreEvent, Usage

from .summary import RunSummary

StepKind: TypeAlias = Literal["request", "tool", "run", "retry", "error", "custom", "final_result"]


class Located(msgspec.Struct, frozen=True, gc=False):
    """Event with its location in the log."""

    event: AnyEvent
    file: str
    line: int


class Delta(msgspec.Struct, frozen=True, gc=False):
    """Piece of a streamed answer, as received."""

    at: float
    """Seconds since the start of the run."""
    text: str | None
    """None if the content policy removed the text."""


class Part(msgspec.Struct, kw_only=True):
    """Part of an answer: text, thinking, or the arguments of a tool call."""

    index: int | None
    kind: ChunkKind
    part_kind: str | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    text: str | None = None
    """Joined text of the deltas; None if the content policy removed it."""
    whole: Json = None
    """Content of a part of kind `other`, received in one piece, not necessarily text."""
    deltas: list[Delta] = []


class Sent(msgspec.Struct, kw_only=True):
    """Messages and settings that a request sent to its model, as far as its run records them: see `sent_messages`."""

    messages: int | None = None
    """Number of messages."""
    history: list[History] = []
    """References to messages that are recorded elsewhere in the log."""
    new: list[Json] = []
    """All other messages in order, each a dict with `kind` and `parts`."""
    rewritten: bool = False
    """Whether messages of the previous request were removed or changed."""
    instructions: Json = None
    """Instructions; None if unchanged since the previous request. The same holds for `tools`."""
    tools: Json = None
    tools_digest: str | None = None
    output_mode: str | None = None
    output_schema: Json = None
    settings: dict[str, Json] | None = None
    stop_sequences: Json = None


class Step(msgspec.Struct, kw_only=True):
    """Step of a run. Unknown and inapplicable values are None."""

    kind: StepKind
    name: str
    """Model, tool, agent, cause of the retry, type of the exception, or name of the custom event."""
    seq: int
    """Sequence number of the first event."""
    start: float
    """Seconds since the start of the run."""
    duration_seconds: float | None = None
    """None for steps without duration, and if the end is not in the log."""
    outcome: str | None = None
    """Outcome of the `llm_end`, `tool_end` or `agent_end`; None if the end is not in the log."""
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
    """Failing component of an error: `model`, `tool`, `output` or `run`."""
    input: Json = None
    """Content: instructions of a request (if new), arguments of a tool call, prompt of a sub-agent."""
    output: Json = None
    """Content: result of a tool, final result, message to the model in a retry, payload of a custom event."""
    error: Json = None
    """Content: message of the error."""
    sent: Sent | None = None
    """Messages of a request."""
    parts: list[Part] = []
    """Parts of the answer to a request."""
    part_details: dict[int, dict[str, Json]] = {}
    """Details of the answer's parts other than content, by index of the part."""
    frames: list[Frame] = []
    """Stack frames of an error, and of the request or tool that raised it, the innermost last."""
    chain: list[Raised] = []
    """Causes of an error, or members of its exception group; likewise for the request or tool that raised it."""
    children: list[Step] = []
    """Steps within this step, in order."""
    run: RunLog | None = None
    """Run of a sub-agent."""


class RunLog(msgspec.Struct, kw_only=True):
    """Everything in the log about one run."""

    summary: RunSummary
    start: float = 0.0
    """Seconds since the start of the loaded root run; 0 for the root run."""
    prompt: Json = None
    output: Json = None
    steps: list[Step] = []
    """Steps in order of their start."""
    events: list[Located] = []
    """Events of this run without sub-agents, in order of `seq`, without duplicates."""
    scores: list[ScoreEvent] = []
    """Scores of the run in order of time, including earlier scores of the same name."""

    def _repr_html_(self) -> str:
        """HTML for notebooks."""
        from sidestream.log.html import run_html

        return run_html(self)

    def walk(self) -> Iterator[tuple[int, RunLog, Step]]:
        """All steps in order, each with its depth and its run, including steps of sub-agents."""
        yield from _walk(self, self.steps, 0)

    def runs(self) -> Iterator[RunLog]:
        """This run, and the run of every sub-agent below it."""
        yield self
        for _, _, step in self.walk():
            if step.run is not None:
                yield step.run

    def messages(self) -> list[Message]:
        """Conversation of this run as it was streamed, without sub-agents."""
        return _messages(self)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Message of a conversation."""

    role: Literal[
        "instructions", "user", "assistant", "thinking", "tool_call", "tool_result", "retry", "error", "output"
    ]
    at: float
    """Seconds since the start of the run; for an answer, of its first piece."""
    content: Json
    """None if the content policy removed the content."""
    name: str | None = None
    """Model or tool."""
    tool_call_id: str | None = None
    outcome: str | None = None
    deltas: list[Delta] = []
    """Deltas of a streamed message."""


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
                messages += [_part_message(step, part) for part in step.parts]
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
    # Instructions come before the prompt at the same time.
    return sorted(messages, key=lambda message: (message.at, message.role != "instructions"))


_ROLES: dict[str, Literal["assistant", "thinking", "tool_call"]] = {"thinking": "thinking", "tool_call": "tool_call"}


def _part_message(step: Step, part: Part) -> Message:
    return Message(
        role=_ROLES.get(part.kind, "assistant"),
        at=part.deltas[0].at if part.deltas else step.start,
        content=part.text,
        name=part.tool_name or step.name,
        tool_call_id=part.tool_call_id,
        deltas=part.deltas,
    )
