"""State of one observed run for the hooks: what they must find again, beside its recorder."""

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
    """State of one run, from hook to hook."""

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
        """The request whose stream is being read, or the last one."""
        self.inside: ActiveSpan | None = None
        """The span of that request, while the provider's own spans are to find it."""
        self.messages: Sequence[Any] = ()
        """The run's live history as of the last request (the one that `wrap_run` is given goes stale)."""
        self.model: Any = None
        """The model that the last request began with."""
        self.interrupted: list[tuple[RequestRecorder, int]] = []
        """Requests cut off in mid-stream: pydantic-ai commits their partial response after their hook has ended."""
        self.system_prompts: str | None = None
        self.instructions: str | None = None
        """What the model was last told to be."""
        self.failed = False
        """Whether `on_run_error` fired: a failure or a cancellation, as opposed to the caller leaving early."""
        self.consumer_raised = False
        self.leaving: bool | None = None
        """How the consumer of `run_stream_events()` left: True of its own accord, False because it was cancelled."""
        self.caller: asyncio.Task[Any] | None = None
        """The task that began the run: the program's, or pydantic-ai's own behind `run_stream_events()`."""
        self.consumer: asyncio.Task[Any] | None = None
        """The task that left `run_stream_events()`."""
        self.leaked: Failure | None = None
        """A cancellation that a tool let out though nobody had cancelled it."""
        self.provider_tools: dict[str, int] = {}
        """Spans of tool calls that the provider is executing, by the call's id."""
        self.refused: list[Any] = []
        """Calls of tools that pydantic-ai will not execute as they are."""
        self.settled: set[str] = set()
        """Tool calls whose end has been told, so that their result event adds nothing."""

    @property
    def request_streams(self) -> bool:
        """Whether the answer at hand comes piece by piece, so that times within it are known."""
        return self.request is not None and self.request.streaming

    def enter(self, number: int) -> ActiveSpan | None:
        """Have the spans that others make from now on be children of the run's span `number`.

        Only where it will be exported, and where pydantic-ai's own span of the same thing is not current already.
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
        """`safely` with this run's recorder."""
        return safely(self.recorder, call, *args)

    def content(self, value: Any) -> Any:
        """`value` taken down as JSON, if any exporter may see it."""
        return snapshot(value) if self.recorder.wants_content else None
