"""Recorder of one model request, called by the source of the run. Runs on the caller's path."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from sidestream.events import (
    ChunkKind,
    Json,
    LLMChunk,
    LLMStart,
    RequestOutcome,
)

from .failure import Failure
from .records import (
    AnyRecord,
    Deltas,
    PartEnded,
    PartResumed,
    PartStarted,
    PartWhole,
    Pulled,
    RequestEnded,
    RequestStarted,
    StreamClosed,
    StreamOpened,
)
from .response import NOTHING_KNOWN, AnyFacts
from .sent import NewMessage, Sent

if TYPE_CHECKING:
    from .run_recorder import RunRecorder

Append: TypeAlias = Callable[[AnyRecord], object]

monotonic_ns = time.monotonic_ns


class RequestRecorder:
    """Recorder of one model request.

    Deltas of a part are appended directly to the `Deltas` of the part: two clock readings, and no call.
    """

    __slots__ = (
        "_append",
        "_key",
        "_now",
        "_parts",
        "_wall",
        "at",
        "done",
        "failure",
        "model",
        "number",
        "run",
        "sent",
        "span",
        "stream_opened_ns",
        "streaming",
    )

    def __init__(
        self,
        run: RunRecorder,
        append: Append,
        number: int,
        span: int,
        model: str,
        streaming: bool,
        *,
        at: int,
        wall: int,
    ) -> None:
        self._append = append
        self._wall = wall
        self.at = at
        """Start of the request, in monotonic nanoseconds."""
        self.sent = False
        """Whether `send` has recorded the request."""
        self._key = run.key
        self._now = run.now
        self._parts: dict[int, Deltas] = {}
        self.run = run
        self.number = number
        self.span = span
        """Number of the request's span within the run."""
        self.model = model
        self.streaming = streaming
        self.stream_opened_ns: int | None = None
        """Last time at which the stream was open without a pull; None if not yet open."""
        self.failure: Failure | None = None
        """Error raised by the stream. The hook around the request sees only a cancellation in this case."""
        self.done = False

    def send(
        self,
        *,
        model: str | None = None,
        provider: str | None = None,
        messages: int | None = None,
        instructions: Json = None,
        settings: dict[str, Json] | None = None,
        stop_sequences: Json = None,
        tools: tuple[str, ...] | None = None,
        sent: Sent | None = None,
    ) -> None:
        """Record the sending of the request. `tools`: names; `model`: given if different from the initial name."""
        self.sent = True
        self.model = model or self.model
        data = LLMStart(
            request=self.number,
            model=self.model,
            provider=provider,
            streaming=self.streaming,
            messages=messages,
            instructions=instructions,
            settings=settings,
            stop_sequences=stop_sequences,
        )
        self._append(
            RequestStarted(
                run=self._key, at=self.at, wall=self._wall, span=self.span, data=data, tools=tools, sent=sent
            )
        )

    # --- streaming ---

    def begin_stream(self, at: int | None = None) -> None:
        """Record the first pull: the time since the opening of the stream (or `at`) counts as the consumer's."""
        at = at or self.stream_opened_ns or self._now()
        self._append(StreamOpened(run=self._key, at=at, request=self.number))

    def pulled(self, t_pull: int, t: int, *, chunk: bool) -> None:
        """Record an event, pulled at `t_pull` and received at `t`, that is not a further delta of the current part.

        `chunk`: whether the event opened a part or carried a piece of a part.
        """
        self._append(Pulled(run=self._key, at=t, request=self.number, asked=t_pull, chunk=chunk))

    def open_part(
        self,
        index: int,
        kind: ChunkKind,
        t: int,
        *,
        part_kind: str | None = None,
        tool_name: str | None = None,
        tool_call_id: str | None = None,
        named: bool = False,
        text: str | None = None,
    ) -> Deltas:
        """Record the start of a part at `t` with `text`; returns the `Deltas` for its further deltas.

        `named`: whether the start already carries content, such as the name of a tool.
        """
        deltas = self._parts[index] = Deltas(index, tool_name, tool_call_id)
        self._append(
            PartStarted(
                run=self._key,
                at=t,
                request=self.number,
                kind=kind,
                part_kind=part_kind,
                named=named,
                text=text,
                deltas=deltas,
            )
        )
        return deltas

    def part(self, index: int) -> Deltas:
        """Return new `Deltas` for resuming the part `index`, with its known tool name and call id."""
        before = self._parts.get(index)
        deltas = self._parts[index] = Deltas(index)
        if before is not None:
            deltas.tool_name, deltas.tool_call_id = before.tool_name, before.tool_call_id
        return deltas

    def resume_part(self, deltas: Deltas, kind: ChunkKind, t: int, text: str | None = None) -> None:
        """Record a delta of another part: still open, closed before, or without a recorded start."""
        self._append(PartResumed(run=self._key, at=t, request=self.number, kind=kind, text=text, deltas=deltas))

    def close_part(self, index: int, t: int) -> None:
        """Record the end of a part."""
        self._append(PartEnded(run=self._key, at=t, request=self.number, index=index))

    def close_parts(self) -> None:
        """Record the end of the stream, regardless of the outcome."""
        self._append(StreamClosed(run=self._key, at=self._now(), request=self.number))

    def whole(
        self,
        index: int,
        kind: ChunkKind,
        text: Json,
        t: int,
        *,
        part_kind: str | None = None,
        tool_name: str | None = None,
        tool_call_id: str | None = None,
    ) -> None:
        """Record a part in one piece, such as each part of an answer without streaming."""
        data = LLMChunk(
            request=self.number,
            part=index,
            kind=kind,
            part_kind=part_kind,
            tool_name=tool_name,
            tool_call_id=tool_call_id,
            text=text,
        )
        self._append(PartWhole(run=self._key, at=t, request=self.number, data=data))

    # --- the end ---

    def end(
        self,
        outcome: RequestOutcome,
        facts: AnyFacts = NOTHING_KNOWN,
        *,
        at: int | None = None,
        failure: Failure | None = None,
        start_known: bool = True,
        answer: NewMessage | None = None,
        whole: bool = False,
    ) -> None:
        """Record the end of the request at the monotonic time `at` (ns). Idempotent.

        `whole`: whether the parts of `answer` (texts, thinking, tool calls) arrived in one piece, unrecorded so far.
        """
        if self.done:
            return
        self.done = True
        now = self._now()
        self._append(
            RequestEnded(
                run=self._key,
                at=now,
                request=self.number,
                outcome=outcome,
                over=now if at is None else at,
                facts=facts,
                failure=failure or self.failure,
                start_known=start_known,
                answer=answer,
                whole=whole,
            )
        )
