"""Raw records: what the caller's path notes of a run, for a `RunAssembler` to make events of.

    path:       RunStarted  RequestStarted  Pulled  PartStarted  …  RequestEnded  ToolStarted  ToolEnded  …  RunEnded
    assembler:  agent_start llm_start               llm_chunk    …  llm_end …     tool_start   tool_end   …  agent_end

A record holds plain values: no object of pydantic-ai's, no exception, nothing that the program may still change. What
is known whole on the path is there as the payload of its event. Times are monotonic nanoseconds.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from sidestream.events import (
    AgentStart,
    ChunkKind,
    Json,
    LLMChunk,
    LLMStart,
    Payload,
    RequestOutcome,
    RunOutcome,
    Score,
    ToolOutcome,
    ToolStart,
)

from .failure import Failure
from .response import AnyFacts
from .sent import NewMessage, Sent
from .totals import Totals


class Deltas:
    """Consecutive deltas of one part: the caller's path adds, the assembler takes away.

    The path adds three items at once, `noted += (text, asked, came)`, which is atomic.
    """

    __slots__ = ("index", "noted", "tool_call_id", "tool_name")

    def __init__(self, index: int, tool_name: str | None = None, tool_call_id: str | None = None) -> None:
        self.index = index
        """Of the part within the answer."""
        self.noted: list[Any] = []
        """For each delta: its text, when it was asked for, when it came."""
        self.tool_name = tool_name
        """As far as it has arrived: it may come in pieces too."""
        self.tool_call_id = tool_call_id


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of the records."""

    run: int
    """Key of the run, unique within the process."""
    at: int
    """When it happened."""


class RunStarted(Record, frozen=True, kw_only=True, gc=False):
    wall: int
    """The wall clock at `at`, in Unix nanoseconds."""
    run_id: str
    agent_name: str | None
    parent: int | None
    """Key of the run that this one is a part of."""
    data: AgentStart


class Happened(Record, frozen=True, kw_only=True, gc=False):
    """Something that is an event as it stands: `retry`, `final_result`, `error`, `custom`."""

    data: Payload


class ToolStarted(Record, frozen=True, kw_only=True, gc=False):
    span: int
    """Number of the tool call's span within the run."""
    data: ToolStart


class ToolEnded(Record, frozen=True, kw_only=True, gc=False):
    span: int
    outcome: ToolOutcome
    result: Json = None
    failure: Failure | None = None
    executed: bool = True


class RunEnded(Record, frozen=True, kw_only=True, gc=False):
    outcome: RunOutcome
    failure: Failure | None = None


class ChildStarted(Record, frozen=True, kw_only=True, gc=False):
    """A sub-agent of the run begins, whether or not anybody waits for its end. Made by the assembler of its run."""


class ChildEnded(Record, frozen=True, kw_only=True, gc=False):
    """A sub-agent of the run is over. Made by the assembler of its run."""

    totals: Totals
    """What it and its own sub-agents used."""
    complete: bool
    """Whether that is all, and not a lower bound."""


class RequestStarted(Record, frozen=True, kw_only=True, gc=False):
    wall: int
    span: int
    data: LLMStart
    tools: tuple[str, ...] | None = None
    """Names of the tools that the model was given, where known."""
    sent: Sent | None = None
    """What was sent, where known, if an exporter may see it."""


class RequestRecord(Record, frozen=True, kw_only=True, gc=False):
    """Base of what happens within a model request."""

    request: int
    """1 for the first of the run."""


class StreamOpened(RequestRecord, frozen=True, kw_only=True, gc=False):
    """The answer's stream was open, at `at`, with nobody pulling from it yet."""


class Pulled(RequestRecord, frozen=True, kw_only=True, gc=False):
    """Something else than a further delta of the part at hand was asked for at `asked`, and came at `at`."""

    asked: int
    chunk: bool
    """Whether it opened a part or carried a piece of one."""


class PartStarted(RequestRecord, frozen=True, kw_only=True, gc=False):
    kind: ChunkKind
    part_kind: str | None = None
    named: bool = False
    """Whether its beginning has content already, as that of a tool call has the tool's name."""
    text: str | None = None
    """What came with its beginning."""
    deltas: Deltas


class PartResumed(RequestRecord, frozen=True, kw_only=True, gc=False):
    """A delta of another part than the one at hand: of one still open, closed before, or whose start nobody saw."""

    kind: ChunkKind
    text: str | None = None
    deltas: Deltas


class PartEnded(RequestRecord, frozen=True, kw_only=True, gc=False):
    index: int


class PartWhole(RequestRecord, frozen=True, kw_only=True, gc=False):
    """A part that came in one piece."""

    data: LLMChunk


class StreamClosed(RequestRecord, frozen=True, kw_only=True, gc=False):
    """The stream is over, however it ended."""


class RequestEnded(RequestRecord, frozen=True, kw_only=True, gc=False):
    outcome: RequestOutcome
    over: int
    """When the request was over, which may be known later."""
    facts: AnyFacts
    failure: Failure | None = None
    start_known: bool = True
    """Whether the request was seen being sent. Without that, its time to first token is unknown."""
    answer: NewMessage | None = None
    """The answer as a message, as the history holds it from then on."""


class Scored(msgspec.Struct, frozen=True, gc=False):
    """A run is judged, be it in progress, over, or another process's."""

    run_id: str
    wall: int
    """When, in Unix nanoseconds."""
    data: Score
    run: int = -1
    """No key: it need not be a run of this process."""


class FlushDeltas(msgspec.Struct, frozen=True, gc=False):
    """Deltas that are still being gathered are wanted now, those of every run."""


AnyRecord: TypeAlias = (
    RunStarted
    | Happened
    | ToolStarted
    | ToolEnded
    | RunEnded
    | ChildStarted
    | ChildEnded
    | RequestStarted
    | RequestRecord
    | Scored
    | FlushDeltas
)
