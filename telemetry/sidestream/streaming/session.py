"""Streaming session: one run in a task of its own, and the observer whose events go to the consumer.

The observer is attached to the agent only while a streamed run is in progress, and records streamed runs only.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Collection, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast, get_args

import msgspec

from sidestream.diagnostics import error_once
from sidestream.errors import ConfigurationError
from sidestream.events import AgentEnd, AgentStart, ChunkKind, LLMChunk, Payload, Progress, StreamEvent
from sidestream.recording.assembler import RunAssembler
from sidestream.recording.context import Link, enclosing
from sidestream.recording.direct import DirectAssembly
from sidestream.recording.failure import Failure
from sidestream.recording.pricing import Pricing
from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request_recorder import monotonic_ns
from sidestream.recording.run_recorder import RunRecorder
from sidestream.recording.snapshot import snapshot
from sidestream.sources.time_limits import pass_on

if TYPE_CHECKING:
    from sidestream.sidecar import Sidecar
    from sidestream.sources.pydantic_ai.capability import Observer

ALL_KINDS: tuple[ChunkKind, ...] = get_args(ChunkKind)


class StreamSession:
    """Session of one streamed run: event queue and signals between the consumer and the run's task.

    Holds no reference to the consumer's `EventStream`, so that a dropped stream is collected and closed.
    """

    def __init__(
        self,
        agent: Any,
        prompt: Any,
        options: dict[str, Any],
        kinds: Collection[ChunkKind],
        emit_progress: bool,
        sidecar: Sidecar | None,
    ) -> None:
        from sidestream.sources.pydantic_ai.attach import core_of

        if not set(kinds) <= set(ALL_KINDS):
            raise ConfigurationError(f"kinds={kinds!r}: must be a collection of {', '.join(ALL_KINDS)}")
        core_of(agent)
        self.agent = agent
        self.prompt = prompt
        self.options = options
        self.kinds = frozenset(kinds)
        self.emit_progress = emit_progress
        self.sidecar = sidecar
        self.pricing = sidecar.pricing if sidecar is not None else _prices
        self.queue: deque[StreamEvent] = deque()
        self.available = asyncio.Event()
        self.demand = asyncio.Event()
        """Set once the consumer has emptied the queue, and waits."""
        self.left = False
        self.run: RunRecorder | None = None
        self._assembly: DirectAssembly | None = None
        self.result: Any = None
        self.export: Sidecar | None = None
        """Sidecar that is not attached to the agent, and is to export this run; None once the run has started."""
        self._task: asyncio.Task[None] | None = None

    # --- called by the consumer ---

    def start(self) -> asyncio.Task[None]:
        task = self._task = asyncio.create_task(self._run(), name="sidestream-stream")
        _run_tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        _run_tasks.discard(task)
        self.available.set()
        if not task.cancelled():
            task.exception()  # marks the exception as retrieved: asyncio would log it after an early leave

    def cancel(self) -> None:
        """Cancel the run together with its consumer, the current task: the outcome is `cancelled`, or a time-out."""
        if self._task is not None:
            safely(_recorder, pass_on, asyncio.current_task(), self._task)
            self._task.cancel()

    async def leave(self) -> None:
        """End the run if it is in progress, and wait for its cleanup."""
        task = self._task
        if task is not None and not task.done():
            if not task.cancelling():
                self.left = True
                task.cancel()
            await asyncio.wait([task])

    # --- called within the run ---

    def put(self, event: StreamEvent) -> None:
        self.queue.append(_with_name(event))
        self.available.set()

    def open_run(self, run_id: str, agent_name: str | None, parent: Link | None) -> RunRecorder:
        assembler = RunAssembler(
            wanted=self._wants, chunk_seconds=0, report_child=parent.run.append if parent is not None else None
        )
        self._assembly = DirectAssembly(assembler, self.put)
        self.run = RunRecorder(
            self._assembly.append, run_id=run_id, owner=_recorder, agent_name=agent_name, parent=parent
        )
        return self.run

    def close_run(self, run: RunRecorder) -> None:
        pass

    def _wants(self, data: Payload) -> bool:
        """Whether the consumer requested payloads of this kind: others are neither delivered nor numbered."""
        if isinstance(data, LLMChunk):
            return data.kind in self.kinds
        return self.emit_progress or not isinstance(data, Progress)

    async def _run(self) -> None:
        from sidestream.sources.pydantic_ai.attach import attached
        from sidestream.sources.pydantic_ai.convert import run_result

        _current_session.set(self)
        observers = self._observers()
        try:
            with attached(self.agent, observers) as more:
                async with self.agent.run_stream_events(self.prompt, **self._with(more)) as events:
                    try:
                        async for event in events:
                            self.result = run_result(event) or self.result
                            if self._assembly is not None:  # deltas are buffered; other events are delivered at once
                                safely(_recorder, self._assembly.flush_stale, monotonic_ns())
                            if self.queue:
                                self.demand.clear()
                                await self.demand.wait()
                    except asyncio.CancelledError:
                        for observer in observers:
                            observer.left(self.run.run_id if self.run else None, self.left)
                        if not self.left:
                            raise
                        cast("asyncio.Task[None]", asyncio.current_task()).uncancel()
        except Exception as error:
            if self.run is None:
                safely(_recorder, self._deliver_start_failure, error)
            raise

    def _with(self, observers: Sequence[Observer]) -> dict[str, Any]:
        capabilities = [*observers, *(self.options.get("capabilities") or ())]
        return {**self.options, "capabilities": capabilities} if observers else self.options

    def _observers(self) -> list[Observer]:
        from sidestream.sources.pydantic_ai.attach import effective_capabilities

        observers = [_stream_observer()]
        sidecar = self.sidecar
        if sidecar is not None:
            own = sidecar.capability
            present = (*effective_capabilities(self.agent), *(self.options.get("capabilities") or ()))
            if not any(each is own for each in present):
                self.export = sidecar
                observers.append(_gate(sidecar))
        return observers

    def _deliver_start_failure(self, error: Exception) -> None:
        """Deliver the error of a run that failed before its start (no model, an invalid argument)."""

        failure = Failure.of(error)
        run_id = str(uuid.uuid4())
        sidecar = self.sidecar if self.sidecar is not None and self.sidecar.active else None
        for recorder in (self, sidecar):
            if recorder is not None:
                run = recorder.open_run(run_id, self.agent.name, None)
                run.start(prompt=snapshot(self.prompt))
                run.error(failure, "run")
                run.end("error", failure)
                recorder.close_run(run)


_prices = Pricing()
_run_tasks: set[asyncio.Task[None]] = set()
"""Strong references to running tasks: the event loop itself keeps weak ones only."""
_current_session: ContextVar[StreamSession | None] = ContextVar("sidestream_stream_session", default=None)
"""Session of this context. While its `run` is None, the next run that starts in the context is the streamed one."""


# --- the agent's name in the payload, as well as in the envelope ---------------------------------------------------


class _NamedStart(AgentStart, frozen=True, kw_only=True):
    agent_name: str


class _NamedEnd(AgentEnd, frozen=True, kw_only=True):
    agent_name: str


_NAMED: dict[type[Payload], Any] = {AgentStart: _NamedStart, AgentEnd: _NamedEnd}


def _with_name(event: StreamEvent) -> StreamEvent:
    data = event.data
    named = _NAMED.get(type(data))
    if named is None:
        return event
    # "agent" is pydantic-ai's own default name.
    return msgspec.structs.replace(
        event, data=named(agent_name=event.agent_name or "agent", **msgspec.structs.asdict(data))
    )


# --- observing this run, and no other ------------------------------------------------------------------------------


class _StreamRecorder:
    """Recorder shared by all streams: records the one run that each stream starts."""

    wants_content = True

    @property
    def pricing(self) -> Pricing:
        session = _current_session.get()
        return _prices if session is None else session.pricing

    @property
    def active(self) -> bool:
        session = _current_session.get()
        return session is not None and session.run is None

    def open_run(self, run_id: str, agent_name: str | None, parent: Link | None) -> RunRecorder:
        return cast(StreamSession, _current_session.get()).open_run(run_id, agent_name, parent)

    def close_run(self, run: RunRecorder) -> None:
        pass

    def trouble(self, error: Exception) -> None:
        kind = type(error).__qualname__
        error_once("delivering events of a stream failed, the run continued", kind, exception=kind)


class _SidecarGate:
    """Recorder in front of a sidecar: opens only the run of a stream that exports to the sidecar."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sidecar, name)

    @property
    def active(self) -> bool:
        session = _current_session.get()
        return self._sidecar.active and session is not None and session.export is self._sidecar

    def open_run(self, run_id: str, agent_name: str | None, parent: Link | None) -> RunRecorder:
        cast(StreamSession, _current_session.get()).export = None
        # The parent is sought among all runs of the sidecar, not only the gate's own.
        return self._sidecar.open_run(run_id, agent_name, enclosing(self._sidecar))


_recorder = cast(Recorder, _StreamRecorder())
_lock = threading.RLock()
_shared_observer: Observer | None = None
_gates: weakref.WeakValueDictionary[int, Observer] = weakref.WeakValueDictionary()
"""Observers by `id()` of their sidecar, which the observer keeps alive."""


def _stream_observer() -> Observer:
    """Observer shared by all streams: a hundred concurrent runs of an agent must not stack a hundred wrappers."""
    global _shared_observer
    with _lock:
        if _shared_observer is None:
            from sidestream.sources.pydantic_ai.capability import Observer

            _shared_observer = Observer(_recorder, "sidestream-stream")
        return _shared_observer


def _gate(sidecar: Sidecar) -> Observer:
    with _lock:
        observer = _gates.get(id(sidecar))
        if observer is None:
            from sidestream.sources.pydantic_ai.capability import Observer

            gate = cast(Recorder, _SidecarGate(sidecar))
            observer = _gates[id(sidecar)] = Observer(gate, f"{sidecar.capability.id}-export")
        return observer
