"""State of one observed run, shared by the hooks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from sidestream.recording.failure import Failure
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request_recorder import RequestRecorder
from sidestream.recording.run_recorder import RunRecorder
from sidestream.recording.snapshot import snapshot
from sidestream.recording.span_context import ActiveSpan

from .outgoing import Outgoing


class RunState:
    """State of one run between hooks."""

    __slots__ = (
        "caller",
        "consumer",
        "consumer_raised",
        "failed",
        "inside",
        "instructions",
        "interrupted",
        "leaked",
        "leaving",
        "messages",
        "model",
        "outgoing",
        "provider_tools",
        "recorder",
        "refused",
        "request",
        "run",
        "settled",
        "system_prompts",
    )

    def __init__(self, recorder: Recorder, run: RunRecorder, outgoing: Outgoing) -> None:
        self.recorder = recorder
        self.run = run
        self.outgoing = outgoing
        self.request: RequestRecorder | None = None
        """Request whose stream is being read, or the last request."""
        self.inside: ActiveSpan | None = None
        """Active span of the request, for the provider's own spans."""
        self.messages: Sequence[Any] = ()
        """Live history of the run as of the last request. The history passed to `wrap_run` becomes stale."""
        self.model: Any = None
        """Model of the last request, before other hooks may have replaced it."""
        self.interrupted: list[tuple[RequestRecorder, int]] = []
        """Requests interrupted in mid-stream: pydantic-ai commits the partial responses after their hooks end."""
        self.system_prompts: str | None = None
        self.instructions: str | None = None
        """Instructions of the last request."""
        self.failed = False
        """Whether `on_run_error` was called: a failure or cancellation, as opposed to a caller that leaves early."""
        self.consumer_raised = False
        self.leaving: bool | None = None
        """Exit of the consumer of `run_stream_events()`. True: voluntary; False: by cancellation; None: not yet."""
        self.caller: asyncio.Task[Any] | None = None
        """Task that started the run: the program's, or pydantic-ai's own behind `run_stream_events()`."""
        self.consumer: asyncio.Task[Any] | None = None
        """Task that left `run_stream_events()`."""
        self.leaked: Failure | None = None
        """Cancellation raised by a tool although the task was not cancelled."""
        self.provider_tools: dict[str, int] = {}
        """Spans of tool calls in progress at the provider, by tool call id."""
        self.refused: list[Any] = []
        """Tool calls that pydantic-ai refuses to execute."""
        self.settled: set[str] = set()
        """Ids of tool calls already recorded, whose result event adds nothing."""

    @property
    def request_streams(self) -> bool:
        """Whether the current answer is streamed, so that times within the answer are known."""
        return self.request is not None and self.request.streaming

    def enter(self, number: int) -> ActiveSpan | None:
        """Make the run's span `number` the parent of spans that other libraries create from now on.

        No-op returning None if no exporter sends spans, or if pydantic-ai's own span is already current.
        """
        run = self.run
        if run.sampled is None or run.instrumented:
            return None
        try:
            span = run.span(number)
            return ActiveSpan(span) if span is not None else None
        except Exception as error:
            self.recorder.trouble(error)
            return None

    def leave(self, inside: ActiveSpan) -> None:
        """Undo `enter`."""
        try:
            inside.leave()
        except Exception as error:
            self.recorder.trouble(error)

    def safely(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call `recording.recorder.safely` with this run's recorder."""
        return safely(self.recorder, call, *args)

    def content(self, value: Any) -> Any:
        """Snapshot of `value`; None if no exporter may see content."""
        return snapshot(value) if self.recorder.wants_content else None
