"""Recorder of one run, called by the source of the run.

Runs on the caller's path. A recorder reads the clock and appends a raw record, which is atomic: every method may be
called from any thread, from a signal handler, or by the garbage collector during another call. A recorder returns only
facts required immediately: ids, the parent, the sampling decision.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from sidestream.events import (
    AgentStart,
    Custom,
    Error,
    FinalResult,
    Json,
    Retry,
    RunOutcome,
    ToolOutcome,
    ToolStart,
)
from sidestream.events.ids import span_id_of, trace_id_of

from .failure import Failure
from .process import Process, this_process
from .records import (
    AnyRecord,
    Happened,
    RunEnded,
    RunStarted,
    ToolEnded,
    ToolStarted,
)
from .request_recorder import Append, RequestRecorder, monotonic_ns
from .sampling import HeadSampler
from .span_context import OwnSpan, SpanRef, span_ref

if TYPE_CHECKING:
    from .context import Link

Where: TypeAlias = Literal["model", "tool", "output", "run"]

_keys = itertools.count(1)


class RunRecorder:
    """Recorder of one run.

    Args:
        append: Receives each record.
        owner: Sidecar (or other recorder) that observes the run.
        parent: Link to the enclosing run; None for a root run.
        attempt: Number of the attempt and id of the first attempt; None outside of `attempts()`.
        remote: Span of the program that started this process.
        clock: Returns monotonic nanoseconds.
        wall: Returns Unix nanoseconds.
        process: Process that observes the run; default: the current one.
    """

    __slots__ = (
        "_append",
        "_attempt",
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
        "now",
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
        attempt: tuple[int, str] | None = None,
        sampler: HeadSampler | None = None,
        remote: SpanRef | None = None,
        clock: Callable[[], int] = monotonic_ns,
        wall: Callable[[], int] = time.time_ns,
        process: Process | None = None,
    ) -> None:
        self._append = append
        self.now = clock
        """Returns monotonic nanoseconds, by this run's clock. No method, which would cost a call for each record."""
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
        """Whether the trace is sampled; None if no exporter sends spans."""
        self.instrumented = False
        self.ended = False
        self._tags = tags
        self._attempt = attempt
        self._sampler = sampler
        self._remote = remote
        self._process = process
        self._spans = itertools.count(1)
        self._requests = itertools.count(1)
        self._errors: set[int] = set()

    def append(self, record: AnyRecord) -> None:
        """Append `record`."""
        self._append(record)

    def start(
        self,
        *,
        prompt: Json = None,
        description: str | None = None,
        model: str | None = None,
        conversation_id: str | None = None,
        mode: Literal["graph", "realtime"] | None = "graph",
        caller: SpanRef | OwnSpan | None = None,
        instrumented: bool = False,
    ) -> None:
        """Record the start of the run in the span `caller`. `instrumented`: whether other code makes its spans."""
        parent = self.parent
        if parent is None:
            caller = caller or self._remote
        elif caller in (None, span_ref(parent.around)) and not parent.run.instrumented:
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
            description=description,
            model=model,
            mode=mode,
            prompt=prompt,
            tags=dict(self._tags) if self._tags else None,
            attempt=self._attempt[0] if self._attempt else None,
            attempt_of=self._attempt[1] if self._attempt else None,
            pid=process.pid,
            host=process.host,
            process=process.identity,
        )
        self._append(
            RunStarted(
                run=self.key,
                at=self.started_ns,
                wall=self._wall() - (self.now() - self.started_ns),
                run_id=self.run_id,
                agent_name=self.agent_name,
                parent=parent.run.key if parent else None,
                data=start,
            )
        )

    def span(self, number: int) -> OwnSpan | None:
        """Span `number` of this run: 0 for the run, others for requests and tool calls. None before the start."""
        return OwnSpan(self.trace_id, self.run_id, number, self.sampled) if self.trace_id else None

    def end(self, outcome: RunOutcome, failure: Failure | None = None) -> None:
        """Record the end of the run, and of everything still open within it. Idempotent."""
        if not self.ended:
            self.ended = True
            self._append(RunEnded(run=self.key, at=self.now(), outcome=outcome, failure=failure))

    def disown(self) -> None:
        """Stop recording in a forked child, because the run belongs to the parent process."""
        self._append = _nowhere
        self.ended = True

    # --- parts of a run ---

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
        stop_sequences: Json = None,
        tools: tuple[str, ...] | None = None,
    ) -> RequestRecorder:
        """Record the sending of a model request at the monotonic time `at` (default: now). `tools`: names."""
        request = self.open_request(model=model, streaming=streaming, at=at)
        request.send(
            provider=provider,
            messages=messages,
            instructions=instructions,
            settings=settings,
            stop_sequences=stop_sequences,
            tools=tools,
        )
        return request

    def open_request(self, *, model: str, streaming: bool, at: int | None = None) -> RequestRecorder:
        """Record the start of a model request whose content `RequestRecorder.send` adds later."""
        self._errors.clear()  # earlier errors have been handled, and their ids may be reused
        now = self.now()
        at = now if at is None else at
        wall = self._wall() - (now - at)
        return RequestRecorder(
            self, self._append, next(self._requests), next(self._spans), model, streaming, at=at, wall=wall
        )

    def tool_start(
        self,
        tool_name: str,
        tool_call_id: str | None = None,
        args: Json = None,
        attempt: int | None = None,
        *,
        by_provider: bool = False,
    ) -> int:
        """Record the start of a tool call; returns the number of its span for `tool_end`.

        `by_provider`: whether the tool runs on the provider's servers.
        """
        span = next(self._spans)
        data = ToolStart(
            tool_name=tool_name,
            tool_call_id=tool_call_id,
            args=args,
            attempt=attempt,
            executed_by="provider" if by_provider else None,
        )
        self._append(ToolStarted(run=self.key, at=self.now(), span=span, data=data))
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
        """Record the end of the tool call `span`. The first end counts; later ones are ignored."""
        now = self.now()
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
        """Record a retry: a message sends the model back to try again."""
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
        """Record the output of the run."""
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
        """Record an error. `identity`: `id()` of the propagating exception, so that each exception is recorded once."""
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
                frames=list(failure.frames) or None,
                chain=list(failure.chain) or None,
            )
        )

    def knows(self, error: BaseException) -> bool:
        """Whether `error` is already recorded as the failure of a part of this run."""
        return id(error) in self._errors

    def custom(
        self, name: str, payload: Json = None, *, tool_name: str | None = None, tool_call_id: str | None = None
    ) -> None:
        """Record a custom event of the application."""
        self._happened(Custom(name=name, payload=payload, tool_name=tool_name, tool_call_id=tool_call_id))

    def _happened(self, data: Retry | FinalResult | Error | Custom) -> None:
        self._append(Happened(run=self.key, at=self.now(), data=data))


def _nowhere(record: AnyRecord) -> None:
    """Discard the records of a run that belongs to another process."""
