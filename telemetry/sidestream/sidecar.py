"""`Sidecar`, the main entry point: settings, attaching to agents, and the life cycle of the pipeline."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from . import exit_hooks
from .diagnostics import error_once, warn_once
from .errors import ConfigurationError
from .events.scores import checked_score
from .pipeline.exporter import Exporter
from .pipeline.pipeline import Pipeline
from .recording.assembler import RunAssembler
from .recording.content import Redactor
from .recording.context import Link
from .recording.pricing import Pricing
from .recording.process import this_process
from .recording.records import FlushDeltas, Scored
from .recording.run_recorder import RunRecorder
from .recording.sampling import head_sampler
from .recording.span_context import span_of_environment
from .recording.tags import Attempts, TagsHere
from .settings import exporters_of
from .stats import SidecarStats

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

    from .sources.pydantic_ai.capability import Observer
    from .sources.tap.iterators import AsyncTap, Tap
    from .sources.tap.opening import AsyncSource, PlainSource, TapOptions

AgentT = TypeVar("AgentT")
ItemT = TypeVar("ItemT")

CHUNK_SECONDS = 0.1
"""Seconds for which deltas of an answer are collected into one event."""

_names = itertools.count(1)


class Sidecar:
    """Observes agents and exports the events of their runs.

        with Sidecar("console", "jsonl:runs/") as sidecar:
            agent = sidecar.observe(agent)
            await agent.run("…")

    A sidecar may be created at import time and shared between threads and event loops. Closing is optional: the exit of
    the interpreter closes it, and so does a SIGTERM or SIGINT that would kill the process, unless
    `SIDESTREAM_SIGNALS=0`. After a fork, the child starts with empty buffers, zeroed statistics, and workers of its
    own.

    Args:
        exporters: Exporters, or specs as in `SIDESTREAM_EXPORTERS`; `"none"` for none. Default: that variable, else
            `console,jsonl:runs/`. With `SIDESTREAM_DISABLED=1` nothing is observed, regardless of this argument.
        redact: Function that returns the exportable form of a text of content. With a redactor, the text of an answer's
            part is exported at the end of the part, so that no secret is split over two chunks.
        prices: Prices by model name, for models that genai-prices lacks or that are billed at other rates.
        tags: Tags of every run, as with `tags()`.
        buffer_events: Maximum number of events that wait for one exporter. Beyond the limit, chunks are dropped first,
            and counted; ends of requests and runs are kept up to twice the limit.
        buffer_bytes: Like `buffer_events`, in bytes of content (approximate).
        close_timeout: Maximum seconds to deliver pending events at the end of the `with` block or of the interpreter.
            Once the JSONL log is complete, an exporter whose call has hung for one second is abandoned.
        stall_seconds: Minimum wait for the provider between two chunks, in seconds, that counts as a stall.

    Raises:
        ConfigurationError: a setting cannot work.
    """

    def __init__(
        self,
        *exporters: Exporter | str,
        redact: Redactor | None = None,
        prices: Mapping[str, ModelPrice] | None = None,
        tags: Mapping[str, str] | None = None,
        buffer_events: int = 20_000,
        buffer_bytes: int = 64_000_000,
        close_timeout: float = 5.0,
        stall_seconds: float = 2.0,
    ) -> None:
        for name, value in (("buffer_events", buffer_events), ("buffer_bytes", buffer_bytes)):
            if value < 1:
                raise ConfigurationError(f"{name}={value!r}: must be at least 1")
        for name, seconds in (("close_timeout", close_timeout), ("stall_seconds", stall_seconds)):
            if not seconds >= 0:
                raise ConfigurationError(f"{name}={seconds!r}: must be a number of seconds, 0 or more")
        made = exporters_of(exporters)
        self._runs: dict[int, RunRecorder] = {}
        self._assembler = RunAssembler(
            stall_seconds=stall_seconds, chunk_seconds=None if redact is not None else CHUNK_SECONDS
        )
        self._pipeline = Pipeline(
            made,
            assembler=self._assembler,
            max_events=buffer_events,
            max_bytes=buffer_bytes,
            redact=redact,
            is_recording=lambda: bool(self._runs),
            on_error=self.trouble,
        )
        self._sampler = head_sampler() if self._pipeline.spans else None
        self._remote = span_of_environment()
        self.pricing = Pricing(prices, on_error=self.trouble)
        self._tags_here = TagsHere(tags or {})
        self._close_timeout = close_timeout
        self.wants_content = any(policy.mode != "none" for policy in self._pipeline.policies)
        self.disabled = not made
        """Whether nothing is observed: `SIDESTREAM_DISABLED=1`, or no exporters."""
        self.active = not self.disabled
        self.stands_aside = False
        """Whether any other sidecar takes precedence on an agent. True for the sidecar of `sidestream run`."""
        self._lock = threading.RLock()
        self._number = next(_names)
        self._observer: Observer | None = None
        self._attached: dict[int, weakref.ref[Any]] = {}  # keyed by id, because agents are not hashable
        self._run_count = self._recording_errors = 0
        self._last_trouble: str | None = None
        _live.add(self)
        exit_hooks.handle_signals()
        self._pipeline.begin(self.stats, self._report)

    # --- attaching ---

    @property
    def capability(self) -> Observer:
        """Capability for a new agent: `Agent(..., capabilities=[sidecar.capability])`."""
        with self._lock:
            if self._observer is None:
                from .sources.pydantic_ai import caller_exit
                from .sources.pydantic_ai.capability import Observer

                self._observer = Observer(self, f"sidestream-{self._number}" if self._number > 1 else "sidestream")
                caller_exit.listen(self._observer.left)
            return self._observer

    def observe(self, agent: AgentT) -> AgentT:
        """Observe every run of an existing pydantic-ai agent; returns the same agent. Idempotent.

        Not observed are runs under `agent.override(spec=…)` with capabilities, because the override replaces those of
        the agent.

        Raises:
            ConfigurationError: `agent` is not a pydantic-ai agent.
        """
        from .sources.pydantic_ai.attach import attach

        if not self.active:
            if not self.disabled:
                warn_once("observe() on a closed sidecar: nothing will be recorded")
            return agent
        observer = self.capability
        self.take_over(agent)
        with self._lock:
            attach(agent, observer)
            key = id(agent)
            self._attached[key] = weakref.ref(agent, lambda _: self._attached.pop(key, None))
        return agent

    def take_over(self, agent: Any) -> None:
        """Detach `agent` from all sidecars with `stands_aside`, in favour of this sidecar."""
        for other in [each for each in _live if each.stands_aside and each is not self]:
            other.unobserve(agent)

    def unobserve(self, agent: AgentT) -> AgentT:
        """Undo `observe` (or `capabilities=[sidecar.capability]`); returns the same agent.

        Runs in progress stay observed to their end.
        """
        from .sources.pydantic_ai.attach import detach

        with self._lock:
            detach(agent, self.capability)
            self._attached.pop(id(agent), None)
        return agent

    @overload
    def tap(self, stream: AsyncSource[ItemT], **about: Unpack[TapOptions]) -> AsyncTap[ItemT]: ...
    @overload
    def tap(self, stream: PlainSource[ItemT], **about: Unpack[TapOptions]) -> Tap[ItemT]: ...
    def tap(self, stream: Any, **about: Unpack[TapOptions]) -> Any:
        """Observe any stream as a run; returns an iterator of the same kind (async or plain) over the identical items.

        Pass the call that opens the stream rather than the open stream, so that the time to first token is complete:

            async for chunk in sidecar.tap(client.chat.completions.create(…, stream=True)): ...
            async with sidecar.tap(client.messages.stream(…)) as stream: ...
            for chunk in sidecar.tap(lambda: client.chat.completions.create(…, stream=True)): ...

        The run starts at the call and ends with the stream: `completed`, `error`, `cancelled`, or `abandoned` if the
        iterator is left, closed or garbage-collected before the end. Items after an exception of the stream are passed
        on unobserved.

        Args:
            stream: An async or plain iterator (async takes precedence), or a source of one: an awaitable, a context
                manager, or a function without arguments, which is called at once.
            about: `agent_name`, `adapter`, `prompt`, `model`, `provider`, `conversation_id`; see `TapOptions`.

        Raises:
            ConfigurationError: `stream` is not a stream (a string is not), or the adapter does not exist.
        """
        from .sources.tap.opening import tap

        return tap(self, stream, **about)

    def tags(self, **tags: str) -> AbstractContextManager[None]:
        """Tags for every run that starts inside the `with` block, including in its tasks and in `asyncio.to_thread`.

        Nested blocks merge; the inner value wins. Values longer than 256 characters are truncated. In an async
        generator, the block covers only the runs that the generator starts, not those of its consumer; in a plain
        generator it covers both, like a context variable.

        Raises:
            ConfigurationError: a value is not a string, a name is longer than 64 characters, or there are more than 32.
        """
        return self._tags_here.block(tags, sys._getframe(1))

    def attempts(self) -> AbstractContextManager[None]:
        """Number the runs inside the `with` block as attempts at the same task: `attempt` 1, 2 and so on.

        For programs that repeat a whole run. Sub-agents are not counted as attempts. In nested blocks, the innermost
        counts.
        """
        return self._tags_here.block({}, sys._getframe(1), attempts=Attempts())

    def score(
        self,
        run_id: str,
        name: str,
        value: bool | float | None = None,
        *,
        label: str | None = None,
        comment: str | None = None,
    ) -> None:
        """Score a run: records an event `score`, which exporters and readers join with the run.

            sidecar.score(result.run_id, "helpful", 0.8, comment="right, and too long")
            sidecar.score(run_id, "reviewed", label="pass")

        The run may be in progress, long over, or of another program. The latest score of each name counts. `sidestream
        note` records scores from a shell.

        Args:
            run_id: Full id of the run.
            name: Name of the criterion, from a bounded set, since metrics are counted by name.
            value: A number, `True` or `False`; None for a score that consists of a label.
            label: Judgement as a word, such as `pass`.
            comment: Reason for the score. Content, subject to the policy of each exporter.

        Raises:
            ConfigurationError: value and label are both missing, or an argument has the wrong type.
        """
        if not isinstance(run_id, str) or not run_id:
            raise ConfigurationError(f"score: run_id={run_id!r}: must be the id of a run, such as result.run_id")
        score = checked_score(name, value, label=label, comment=comment)
        if not self.active:
            if not self.disabled:
                warn_once("score() on a closed sidecar: the score is not recorded")
            return
        self._pipeline.put(Scored(run_id, time.time_ns(), score))
        self._pipeline.start()
        self._pipeline.wake()

    # --- life ---

    def flush(self, timeout: float = 5.0) -> dict[str, int]:
        """Deliver all events recorded so far, within `timeout` seconds.

        Returns the number of undelivered events by exporter; empty if all were delivered.
        """
        self._flush_deltas()
        return self._pipeline.flush(timeout)

    def close(self, timeout: float | None = None) -> dict[str, int]:
        """Deliver pending events and release the exporters, within `timeout` seconds (default `close_timeout`).

        Returns the number of undelivered events by exporter; empty if all were delivered. Attached agents continue
        unobserved. A run in progress gets no `agent_end` in the log, so readers report it as lost. Idempotent.
        """
        with self._lock:
            was_active, self.active = self.active, False
            if was_active and self._observer is not None:
                from .sources.pydantic_ai import caller_exit

                caller_exit.stop_listening(self._observer.left)
            for agent in [ref() for ref in list(self._attached.values())]:
                if agent is not None:
                    self.unobserve(agent)
        self._flush_deltas()
        _live.discard(self)
        exit_hooks.restore_signals()
        return self._pipeline.close(self._close_timeout if timeout is None else timeout)

    def stats(self) -> SidecarStats:
        """Statistics of the sidecar and its exporters, as of the last call of each exporter."""
        pending_records = self._pipeline.pending_records  # first, so that no record in transit is missing
        return SidecarStats(
            exporters=self._pipeline.stats(),
            runs=self._run_count,
            runs_in_progress=len(self._runs),
            unpriced_requests=self._assembler.unpriced_requests,
            recording_errors=self._recording_errors,
            pending_records=pending_records,
            redaction_failures=self._pipeline.redaction_failures,
            collector=self._pipeline.collector_stats(),
        )

    def __repr__(self) -> str:
        stats = self.stats()
        exporters = ", ".join(stats.exporters) or "no exporters"
        state = "" if self.active else ", disabled" if self.disabled else ", closed"
        return f"<Sidecar {exporters}: {stats.runs} runs, {stats.runs_in_progress} in progress{state}>"

    def _repr_html_(self) -> str:
        """The statistics as a table, for notebooks."""
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{each.seen}</td><td>{each.exported}</td><td>{each.pending}</td>"
            f"<td>{sum(each.dropped.values())}</td></tr>"
            for name, each in self.stats().exporters.items()
        )
        head = "".join(f"<th>{name}</th>" for name in ("exporter", "seen", "exported", "pending", "dropped"))
        return f"<p>{escape(repr(self))}</p><table><tr>{head}</tr>{rows}</table>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    # --- interface for the recorders ---

    def open_run(self, run_id: str, agent_name: str | None, parent: Link | None) -> RunRecorder:
        """Start recording a run; `parent` is the link to the enclosing run, if any."""
        attempts = self._tags_here.attempts() if parent is None else None
        run = RunRecorder(
            self._pipeline.put,
            run_id=run_id,
            owner=self,
            agent_name=agent_name,
            parent=parent,
            tags=self._tags_here.get(),
            attempt=attempts.next(run_id) if attempts is not None else None,
            sampler=self._sampler,
            remote=self._remote,
        )
        with self._lock:
            self._run_count += 1
            self._runs[run.key] = run
        self._pipeline.start()
        return run

    def close_run(self, run: RunRecorder) -> None:
        """Remove a finished run. Takes no lock, because the garbage collector may end a run at any point."""
        self._runs.pop(run.key, None)
        self._pipeline.wake()

    def trouble(self, error: Exception) -> None:
        """Count an internal failure. A worker logs the failure later, because logging may block."""
        self._recording_errors += 1
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else "?"
        self._last_trouble = f"{type(error).__qualname__} in {where}"

    def _flush_deltas(self) -> None:
        if self._runs:
            self._pipeline.put(FlushDeltas())

    def _report(self) -> None:
        for model in sorted(self._assembler.unpriced_models):
            if model not in ("test", "function") and not model.startswith("function:"):
                warn_once("no price known for model, its cost is left out", model, model=model)
        if self._last_trouble is not None:
            error_once("recording failed, the run continued", self._last_trouble, exception=self._last_trouble)

    def after_fork(self) -> None:
        """Reset statistics and start new workers in a forked child."""
        self._lock = threading.RLock()
        for run in self._runs.values():
            run.disown()  # the run belongs to the parent process; an inherited tap must not record the run twice
        self._runs.clear()
        self._run_count = self._recording_errors = 0
        self._assembler.forget_runs()
        this_process()  # refresh the cached identity of the process
        if self._observer is not None:
            from .sources.pydantic_ai import caller_exit

            caller_exit.after_fork()
            self._observer.forget_runs()
        self._pipeline.after_fork()


_live: weakref.WeakSet[Sidecar] = weakref.WeakSet()
exit_hooks.register(_live)
