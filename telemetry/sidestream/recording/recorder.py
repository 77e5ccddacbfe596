"""What sources of runs report to: the port to the sidecar, and the recorders of a run and of a model request.

This is the caller's path. A recorder looks at the clock and appends a raw record, which is atomic: every method may be
called from any thread, from a signal handler, and by the garbage collector in the middle of another call. It answers
only what must be known at once: ids, the parent, whether the trace is sampled.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeAlias

from sidestream.events import (
    AgentStart,
    ChunkKind,
    Custom,
    Error,
    FinalResult,
    Json,
    LLMChunk,
    LLMStart,
    RequestOutcome,
    Retry,
    RunOutcome,
    ToolOutcome,
    ToolStart,
)
from sidestream.events.ids import span_id_of, trace_id_of

from .context import Link
from .failure import Failure
from .pricing import Pricing
from .process import Process, this_process
from .records import (
    AnyRecord,
    Deltas,
    Happened,
    PartEnded,
    PartResumed,
    PartStarted,
    PartWhole,
    Pulled,
    RequestEnded,
    RequestStarted,
    RunEnded,
    RunStarted,
    StreamClosed,
    StreamOpened,
    ToolEnded,
    ToolStarted,
)
from .response import NOTHING_KNOWN, ResponseFacts
from .sampling import HeadSampler
from .span_context import SpanRef

monotonic_ns = time.monotonic_ns
Where: TypeAlias = Literal["model", "tool", "output", "run"]
Append: TypeAlias = Callable[[AnyRecord], object]

_keys = itertools.count(1)


class Recorder(Protocol):
    """What a source of runs needs of the sidecar that it reports to."""

    pricing: Pricing

    @property
    def active(self) -> bool:
        """Whether anyone listens: False once the sidecar is closed."""
        ...

    @property
    def wants_content(self) -> bool:
        """Whether any exporter may see content, so that it has to be taken down."""
        ...

    def open_run(self, run_id: str, agent_name: str | None, parent: Link | None) -> RunRecorder: ...
    def close_run(self, run: RunRecorder) -> None: ...
    def trouble(self, error: Exception) -> None:
        """Count a failure of our own."""
        ...


def safely(recorder: Recorder, call: Callable[..., Any], *args: Any) -> Any:
    """`call(*args)`, or None where that raises: whatever of ours fails inside a hook is counted, and no more."""
    try:
        return call(*args)
    except Exception as error:
        recorder.trouble(error)
        return None


class RunRecorder:
    """Recorder of one run.

    Args:
        append: Takes each record.
        owner: The sidecar (or other recorder) whose run this is.
        parent: What the run was started inside of.
        remote: The span of the program that started this one.
        clock: Monotonic nanoseconds.
        wall: Unix nanoseconds.
        process: Who observes the run; this process unless given.
    """

    __slots__ = (
        "_append",
        "_clock",
        "_errors",
        "_process",
        "_remote",
        "_requests",
        "_sampler",
        "_spans",
        "_tags",
        "_wall",
        "agent_name",
        "depth",
        "ended",
        "instrumented",
        "key",
        "owner",
        "parent",
        "root_run_id",
        "run_id",
        "sampled",
        "started_ns",
        "trace_id",
    )

    def __init__(
        self,
        append: Append,
        *,
        run_id: str,
        owner: object = None,
        agent_name: str | None = None,
        parent: Link | None = None,
        tags: Mapping[str, str] | None = None,
        sampler: HeadSampler | None = None,
        remote: SpanRef | None = None,
        clock: Callable[[], int] = monotonic_ns,
        wall: Callable[[], int] = time.time_ns,
        process: Process | None = None,
    ) -> None:
        self._append = append
        self._clock = clock
        self._wall = wall
        self.started_ns = clock()
        self.key = next(_keys)
        self.owner = owner
        self.run_id = run_id
        self.agent_name = agent_name
        self.parent = parent
        self.root_run_id: str = parent.run.root_run_id if parent else run_id
        self.depth: int = parent.run.depth + 1 if parent else 0
        self.trace_id: str | None = None
        self.sampled: bool | None = None
        """Whether the trace is kept. None: there is no exporter of spans, so nobody asks."""
        self.instrumented = False
        self.ended = False
        self._tags = tags
        self._sampler = sampler
        self._remote = remote
        self._process = process
        self._spans = itertools.count(1)
        self._requests = itertools.count(1)
        self._errors: set[int] = set()

    def append(self, record: AnyRecord) -> None:
        """Note `record`."""
        self._append(record)

    def now(self) -> int:
        """Monotonic nanoseconds, by this run's clock."""
        return self._clock()

    def start(
        self,
        *,
        prompt: Json = None,
        model: str | None = None,
        conversation_id: str | None = None,
        mode: Literal["graph", "realtime"] | None = "graph",
        caller: SpanRef | None = None,
        instrumented: bool = False,
    ) -> None:
        """The run begins, inside the span `caller`. `instrumented`: others make spans of what happens in it."""
        parent = self.parent
        if parent is None:
            caller = caller or self._remote
        elif caller in (None, parent.around) and not parent.run.instrumented:
            caller = parent.run.span(parent.span)
        self.trace_id = caller.trace_id if caller else trace_id_of(self.root_run_id)
        if self._sampler is not None:
            self.sampled = self._sampler(self.trace_id, caller.sampled if caller else None)
        self.instrumented = instrumented
        process = self._process or this_process()
        start = AgentStart(
            parent_run_id=parent.run.run_id if parent else None,
            parent_agent_name=parent.run.agent_name if parent else None,
            parent_tool_call_id=parent.tool_call_id if parent else None,
            parent_link=parent.via if parent else None,
            root_run_id=self.root_run_id,
            depth=self.depth or None,
            conversation_id=conversation_id,
            trace_id=self.trace_id,
            span_id=span_id_of(self.run_id, 0),
            parent_span_id=caller.span_id if caller else None,
            sampled=self.sampled,
            instrumented=instrumented or None,
            model=model,
            mode=mode,
            prompt=prompt,
            tags=dict(self._tags) if self._tags else None,
            pid=process.pid,
            host=process.host,
            process=process.identity,
        )
        self._append(
            RunStarted(
                run=self.key,
                at=self.started_ns,
                wall=self._wall() - (self._clock() - self.started_ns),
                run_id=self.run_id,
                agent_name=self.agent_name,
                parent=parent.run.key if parent else None,
                data=start,
            )
        )

    def span(self, number: int) -> SpanRef | None:
        """The span `number` of this run: 0 is its own, a request and a tool call have theirs."""
        return SpanRef(self.trace_id, span_id_of(self.run_id, number), self.sampled) if self.trace_id else None

    def end(self, outcome: RunOutcome, failure: Failure | None = None) -> None:
        """The run is over, and with it whatever of it is still open. A second call does nothing."""
        if not self.ended:
            self.ended = True
            self._append(RunEnded(run=self.key, at=self._clock(), outcome=outcome, failure=failure))

    def disown(self) -> None:
        """In a forked child: this run is the parent's to tell."""
        self._append = _nowhere
        self.ended = True

    # --- what a run consists of ---

    def request(
        self,
        *,
        model: str,
        streaming: bool,
        at: int | None = None,
        provider: str | None = None,
        messages: int | None = None,
        instructions: Json = None,
        settings: dict[str, Json] | None = None,
        tools: tuple[str, ...] | None = None,
    ) -> RequestRecorder:
        """A model request is sent, at the monotonic time `at` (now unless given), with `tools` by name."""
        self._errors.clear()  # what failed before has been dealt with, and its id may come again
        number, span, now = next(self._requests), next(self._spans), self._clock()
        data = LLMStart(
            request=number,
            model=model,
            provider=provider,
            streaming=streaming,
            messages=messages,
            instructions=instructions,
            settings=settings,
        )
        at = now if at is None else at
        self._append(
            RequestStarted(run=self.key, at=at, wall=self._wall() - (now - at), span=span, data=data, tools=tools)
        )
        return RequestRecorder(self, self._append, number, span, model, streaming)

    def tool_start(
        self,
        tool_name: str,
        tool_call_id: str | None = None,
        args: Json = None,
        attempt: int | None = None,
        *,
        by_provider: bool = False,
    ) -> int:
        """A tool call is taken up; returns the number of its span, under which it ends.

        `by_provider`: the provider executes it, on its own servers.
        """
        span = next(self._spans)
        data = ToolStart(
            tool_name=tool_name,
            tool_call_id=tool_call_id,
            args=args,
            attempt=attempt,
            executed_by="provider" if by_provider else None,
        )
        self._append(ToolStarted(run=self.key, at=self._clock(), span=span, data=data))
        return span

    def tool_end(
        self,
        span: int,
        outcome: ToolOutcome,
        *,
        result: Json = None,
        failure: Failure | None = None,
        executed: bool = True,
    ) -> None:
        """The tool call `span` is over. Does nothing for one that has ended before."""
        now = self._clock()
        self._append(
            ToolEnded(
                run=self.key, at=now, span=span, outcome=outcome, result=result, failure=failure, executed=executed
            )
        )

    def retry(
        self,
        *,
        cause: str,
        attempt: int | None = None,
        max_attempts: int | None = None,
        tool_name: str | None = None,
        tool_call_id: str | None = None,
        message: Json = None,
    ) -> None:
        """The model is asked again."""
        self._happened(
            Retry(
                cause=cause,
                attempt=attempt,
                max_attempts=max_attempts,
                tool_name=tool_name,
                tool_call_id=tool_call_id,
                message=message,
            )
        )

    def final_result(self, output: Json, output_type: str | None) -> None:
        """The output of the run is known."""
        self._happened(FinalResult(output=output, output_type=output_type))

    def error(
        self,
        failure: Failure,
        where: Where,
        *,
        identity: int | None = None,
        request: int | None = None,
        tool_name: str | None = None,
        tool_call_id: str | None = None,
    ) -> None:
        """Something failed. `identity` is the exception's `id()` while it is on its way: it is told once."""
        if identity is not None:
            if identity in self._errors:
                return
            self._errors.add(identity)
        self._happened(
            Error(
                error=failure.message,
                exception_type=failure.type,
                where=where,
                request=request,
                tool_name=tool_name,
                tool_call_id=tool_call_id,
            )
        )

    def knows(self, error: BaseException) -> bool:
        """Whether `error` has been told already, as a failure of a part of this run."""
        return id(error) in self._errors

    def custom(
        self, name: str, payload: Json = None, *, tool_name: str | None = None, tool_call_id: str | None = None
    ) -> None:
        """An event of the application's own."""
        self._happened(Custom(name=name, payload=payload, tool_name=tool_name, tool_call_id=tool_call_id))

    def _happened(self, data: Retry | FinalResult | Error | Custom) -> None:
        self._append(Happened(run=self.key, at=self._clock(), data=data))


class RequestRecorder:
    """Recorder of one model request.

    The deltas of a part are appended to the `Deltas` that the part was opened with: two looks at the clock and three
    appends, and no call.
    """

    __slots__ = (
        "_append",
        "_key",
        "_now",
        "_parts",
        "done",
        "failure",
        "model",
        "number",
        "run",
        "span",
        "stream_opened_ns",
        "streaming",
    )

    def __init__(self, run: RunRecorder, append: Append, number: int, span: int, model: str, streaming: bool) -> None:
        self._append = append
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
        facts: ResponseFacts = NOTHING_KNOWN,
        *,
        at: int | None = None,
        failure: Failure | None = None,
        start_known: bool = True,
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
            )
        )


def _nowhere(record: AnyRecord) -> None:
    """Takes the records of a run that is another process's."""
