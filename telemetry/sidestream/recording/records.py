"""Raw records: facts noted on the caller's path, from which a `RunAssembler` makes events.

    path:       RunStarted  RequestStarted  Pulled  PartStarted  …  RequestEnded  ToolStarted  ToolEnded  …  RunEnded
    assembler:  agent_start llm_start               llm_chunk    …  llm_end …     tool_start   tool_end   …  agent_end

Records hold plain values only: no pydantic-ai objects, no exceptions, nothing that the program may still mutate. Facts
complete on the path are stored as the payload of their event. Times are monotonic nanoseconds.
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
    """Consecutive deltas of one part: appended by the caller's path, removed by the assembler.

    The path appends three items in one atomic operation: `noted += (text, asked, came)`.
    """

    __slots__ = ("index", "noted", "tool_call_id", "tool_name")

    def __init__(self, index: int, tool_name: str | None = None, tool_call_id: str | None = None) -> None:
        self.index = index
        """Index of the part within the answer."""
        self.noted: list[Any] = []
        """Three items per delta: text, time of the pull, time of arrival."""
        self.tool_name = tool_name
        """Tool name received so far, since providers may stream the name in pieces."""
        self.tool_call_id = tool_call_id


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base class of the records."""

    run: int
    """Key of the run, unique within the process."""
    at: int
    """Monotonic time in nanoseconds."""


class RunStarted(Record, frozen=True, kw_only=True, gc=False):
    wall: int
    """Wall clock at `at`, in Unix nanoseconds."""
    run_id: str
    agent_name: str | None
    parent: int | None
    """Key of the parent run; None for a root run."""
    data: AgentStart


class Happened(Record, frozen=True, kw_only=True, gc=False):
    """Payload of a complete event: `retry`, `final_result`, `error` or `custom`."""

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
    """Start of a sub-agent, in the foreground or background. Created by the assembler of the sub-agent's run."""


class ChildEnded(Record, frozen=True, kw_only=True, gc=False):
    """End of a sub-agent. Created by the assembler of the sub-agent's run."""

    totals: Totals
    """Totals of the sub-agent, including its own sub-agents."""
    complete: bool
    """Whether `totals` are exact, and not lower bounds."""


class RequestStarted(Record, frozen=True, kw_only=True, gc=False):
    wall: int
    span: int
    data: LLMStart
    tools: tuple[str, ...] | None = None
    """Names of the tools offered to the model; None if unknown."""
    sent: Sent | None = None
    """Messages and tools of the request; None if unknown, or if no exporter may see content."""


class RequestRecord(Record, frozen=True, kw_only=True, gc=False):
    """Base class of the records within a model request."""

    request: int
    """Number of the request within the run, from 1."""


class StreamOpened(RequestRecord, frozen=True, kw_only=True, gc=False):
    """Opening of the answer's stream, before the first pull."""


class Pulled(RequestRecord, frozen=True, kw_only=True, gc=False):
    """Pull at `asked` and arrival at `at` of an event that is not a further delta of the current part."""

    asked: int
    chunk: bool
    """Whether the event opened a part or carried a piece of a part."""


class PartStarted(RequestRecord, frozen=True, kw_only=True, gc=False):
    kind: ChunkKind
    part_kind: str | None = None
    named: bool = False
    """Whether the start of the part already carries content, such as the name of a tool."""
    text: str | None = None
    """Text that arrived with the start of the part."""
    deltas: Deltas


class PartResumed(RequestRecord, frozen=True, kw_only=True, gc=False):
    """Delta of a part other than the current one: still open, closed before, or without a recorded start."""

    kind: ChunkKind
    text: str | None = None
    deltas: Deltas


class PartEnded(RequestRecord, frozen=True, kw_only=True, gc=False):
    index: int


class PartWhole(RequestRecord, frozen=True, kw_only=True, gc=False):
    """Part that arrived in one piece."""

    data: LLMChunk


class StreamClosed(RequestRecord, frozen=True, kw_only=True, gc=False):
    """End of the stream, regardless of the outcome."""


class RequestEnded(RequestRecord, frozen=True, kw_only=True, gc=False):
    outcome: RequestOutcome
    over: int
    """End of the request, possibly earlier than `at`."""
    facts: AnyFacts
    failure: Failure | None = None
    start_known: bool = True
    """Whether the sending of the request was observed; otherwise the time to first token is unknown."""
    answer: NewMessage | None = None
    """Answer as a message, as it will appear in the history."""
    whole: bool = False
    """Whether the parts of the answer arrived in one piece, without records of their own."""


class Scored(msgspec.Struct, frozen=True, gc=False):
    """Score of a run in progress, of a finished run, or of another process's run."""

    run_id: str
    wall: int
    """Unix time in nanoseconds."""
    data: Score
    run: int = -1
    """No key, because the run may belong to another process."""


class FlushDeltas(msgspec.Struct, frozen=True, gc=False):
    """Request to emit the collected deltas of all runs now."""


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
