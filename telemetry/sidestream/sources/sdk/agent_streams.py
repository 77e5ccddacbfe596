"""Runs of agents whose SDK exposes one stream of events, which an adapter reads."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

from sidestream.recording.context import Link, current
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request_recorder import monotonic_ns
from sidestream.recording.snapshot import snapshot
from sidestream.recording.span_context import current_span, current_span_context
from sidestream.sources.adapters.protocol import Adapter
from sidestream.sources.tap.tapped_run import TappedRun

from .calls import Observation
from .generators import apass_through, start_run


class RunFacts(NamedTuple):
    """Facts of a run at its start."""

    name: str | None
    prompt: Any = None
    conversation_id: str | None = None


def observed_stream(
    original: Any,
    observation: Observation,
    adapter: Callable[[], Adapter],
    about: Callable[[Any, tuple[Any, ...], dict[str, Any]], RunFacts],
    recorded_modules: tuple[str, ...] = (),
) -> Callable[..., Any]:
    """Wrap a method that is an asynchronous generator, and record its items with an adapter.

    Args:
        original: The method.
        observation: Observation of the SDKs.
        adapter: Factory for the adapter of each stream.
        about: Returns the facts of a call from the object, the arguments and the keyword arguments.
        recorded_modules: As in `Link`: modules of the SDK whose model calls appear in the stream.
    """
    recorder = observation.recorder

    def stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(self, *args, **kwargs)
        if not observation.active:
            return made

        def make(outer: Link | None) -> AgentStream:
            return AgentStream(recorder, adapter(), about(self, args, kwargs), outer, recorded_modules)

        return apass_through(made, partial(start_run, recorder, make))

    return stream


class AgentStream:
    """Run of one observed stream."""

    def __init__(
        self,
        recorder: Recorder,
        adapter: Adapter,
        about: RunFacts,
        outer: Link | None,
        recorded_modules: tuple[str, ...],
    ) -> None:
        run = recorder.open_run(str(uuid.uuid4()), about.name, outer)
        run.start(
            prompt=snapshot(about.prompt) if recorder.wants_content else None,
            conversation_id=about.conversation_id,
            mode=None,
            caller=current_span(),
        )
        self._recorder = recorder
        self._run = TappedRun(recorder, run, adapter, model=None, provider=None)
        self._run.begins_at_first_pull()
        self._link = Link(run, None, current.get(), around=current_span_context(), recorded_modules=recorded_modules)
        self._t_pull = 0

    def __enter__(self) -> None:
        self._outside = current.get()
        current.set(self._link)
        self._t_pull = monotonic_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        current.set(self._outside)
        if error is not None:
            safely(self._recorder, self._raised, error)

    def _raised(self, error: BaseException) -> None:
        self._run.empty_pull(self._t_pull)
        self._run.raised(error)

    def record_item(self, item: Any) -> None:
        """Record `item`."""
        self._run.item(item, self._t_pull)

    def left(self) -> None:
        """Record that the consumer has left the stream."""
        safely(self._recorder, self._run.end, "abandoned")
