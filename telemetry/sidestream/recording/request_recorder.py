"""Recorder of one model request: what the source of its run reports to. This is the caller's path."""

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

    The deltas of a part are added to the `Deltas` that the part was opened with: two looks at the clock, and no call.
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
        """When it began."""
        self.sent = False
        """Whether `send` has recorded it."""
        self._key = run.key
        self._now = run.now
        self._parts: dict[int, Deltas] = {}
        self.run = run
        self.number = number
        self.span = span
        """Number of its span within the run."""
        self.model = model
        self.streaming = streaming
        self.stream_opened_ns: int | None = None
        """When the stream was last known to be open with nobody pulling from it."""
        self.failure: Failure | None = None
        """The error that came through the stream; the hook around the request only sees a cancellation then."""
        self.done = False

    def send(
        self,
        *,
        model: str | None = None,
        provider: str | None = None,
        messages: int | None = None,
        instructions: Json = None,
        settings: dict[str, Json] | None = None,
        tools: tuple[str, ...] | None = None,
        sent: Sent | None = None,
    ) -> None:
        """The request is sent, with `tools` by name; `model` where it is another than it began with."""
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
        )
        self._append(
            RequestStarted(
                run=self._key, at=self.at, wall=self._wall, span=self.span, data=data, tools=tools, sent=sent
            )
        )

    # --- streaming ---

    def begin_stream(self, at: int | None = None) -> None:
        """Somebody begins to pull: what has passed since the stream was open, or `at`, is the consumer's time."""
        at = at or self.stream_opened_ns or self._now()
        self._append(StreamOpened(run=self._key, at=at, request=self.number))

    def pulled(self, t_pull: int, t: int, *, chunk: bool) -> None:
        """An event that is no further delta of the part at hand was asked for at `t_pull` and came at `t`.

        `chunk`: it opened a part or carried a piece of one.
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
        """A part begins at `t`, with `text`; returns where its further deltas go.

        `named`: its beginning says something already, as that of a tool call says the tool's name.
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
        """Where deltas of the part `index` go once it is resumed; what is known of its tool is known there."""
        before = self._parts.get(index)
        deltas = self._parts[index] = Deltas(index)
        if before is not None:
            deltas.tool_name, deltas.tool_call_id = before.tool_name, before.tool_call_id
        return deltas

    def resume_part(self, deltas: Deltas, kind: ChunkKind, t: int, text: str | None = None) -> None:
        """A delta of another part than the one at hand: of one still open, closed before, or whose start nobody saw."""
        self._append(PartResumed(run=self._key, at=t, request=self.number, kind=kind, text=text, deltas=deltas))

    def close_part(self, index: int, t: int) -> None:
        """The part is complete."""
        self._append(PartEnded(run=self._key, at=t, request=self.number, index=index))

    def close_parts(self) -> None:
        """The stream is over, however it ended."""
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
        """A part came in one piece, as all parts of an answer that is not streamed do."""
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
    ) -> None:
        """The request is over, as of the monotonic time `at` (ns). A second call does nothing."""
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
            )
        )
