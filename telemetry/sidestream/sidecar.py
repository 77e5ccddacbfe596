"""`Sidecar`: the face users meet. Settings, attaching to agents, and the life of the pipeline behind it."""

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
"""Seconds for which deltas of an answer are gathered into one event."""

_names = itertools.count(1)


class Sidecar:
    """Observes agents and hands what it sees to its exporters.

        with Sidecar("console", "jsonl:runs/") as sidecar:
            agent = sidecar.observe(agent)
            await agent.run("…")

    Safe to make at import time, to share between threads and event loops, and never to close: the interpreter's exit
    closes it, and so does a SIGTERM or SIGINT that would kill the process, unless `SIDESTREAM_SIGNALS=0`. After a fork,
    the child starts with empty buffers and statistics and its own workers.

    Args:
        exporters: Exporters, or their names as in `SIDESTREAM_EXPORTERS`; `"none"` for none. Not given: that variable,
            else `console,jsonl:runs/`. With `SIDESTREAM_DISABLED=1` nothing is observed, whatever is given here.
        redact: Takes each text of content and returns what may be shown of it. With it, the text of an answer's part is
            exported when the part ends, so that nothing can hide in the seam of two chunks.
        prices: Prices of models that the offline list does not know, or that you pay differently, by model name.
        tags: Written with every run, as those of `tags()` are.
        buffer_events: Events that may wait for one exporter. What does not fit is dropped and counted: chunks first,
            the ends of requests and runs never before twice as many wait.
        buffer_bytes: The same in bytes of content, roughly.
        close_timeout: Seconds that leaving the `with` block, or the interpreter, may take to deliver what is pending.
            Once the JSONL log has everything, an exporter whose call hangs for a second is not waited for any longer.
        stall_seconds: A wait for the provider between two chunks that counts as a stall.

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
        """Whether nothing is to be observed: `SIDESTREAM_DISABLED=1`, or no exporters."""
        self.active = not self.disabled
        self.stands_aside = False
        """Whether it leaves an agent to any other sidecar that observes it, as that of `sidestream run` does."""
        self._lock = threading.RLock()
        self._number = next(_names)
        self._observer: Observer | None = None
        self._attached: dict[int, weakref.ref[Any]] = {}  # agents cannot be hashed
        self._run_count = self._recording_errors = 0
        self._last_trouble: str | None = None
        _live.add(self)
        exit_hooks.handle_signals()
        self._pipeline.begin(self.stats, self._report)

    # --- attaching ---

    @property
    def capability(self) -> Observer:
        """For a new agent: `Agent(..., capabilities=[sidecar.capability])`."""
        with self._lock:
            if self._observer is None:
                from .sources.pydantic_ai import caller_exit
                from .sources.pydantic_ai.capability import Observer

                self._observer = Observer(self, f"sidestream-{self._number}" if self._number > 1 else "sidestream")
                caller_exit.listen(self._observer.left)
            return self._observer

    def observe(self, agent: AgentT) -> AgentT:
        """Observe every run of an existing pydantic-ai agent; returns the same agent. Twice is once.

        Not seen are runs under `agent.override(spec=…)` with capabilities of its own, which replaces all of an agent's.

        Raises:
            ConfigurationError: `agent` is not a pydantic-ai agent.
        """
        from .sources.pydantic_ai.attach import attach

        if not self.active:
            if not self.disabled:
                warn_once("observe() on a sidecar that is closed: nothing will be recorded")
            return agent
        observer = self.capability
        self.take_over(agent)
        with self._lock:
            attach(agent, observer)
            key = id(agent)
            self._attached[key] = weakref.ref(agent, lambda _: self._attached.pop(key, None))
        return agent

    def take_over(self, agent: Any) -> None:
        """Have the sidecars that stand aside leave `agent` to this one."""
        for other in [each for each in _live if each.stands_aside and each is not self]:
            other.unobserve(agent)

    def unobserve(self, agent: AgentT) -> AgentT:
        """Undo `observe` (or `capabilities=[sidecar.capability]`); returns the same agent.

        Runs in progress go on being observed.
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
        """A stream of anybody's as a run: an iterator of the same kind, async or plain, that gives the very same items.

        Give what makes the stream rather than the stream, and the log has the user's time to first token:

            async for chunk in sidecar.tap(client.chat.completions.create(…, stream=True)): ...
            async with sidecar.tap(client.messages.stream(…)) as stream: ...
            for chunk in sidecar.tap(lambda: client.chat.completions.create(…, stream=True)): ...

        The run begins now and ends with the stream: `completed`, `error`, `cancelled`, or `abandoned` once the iterator
        is left, closed or let go of. What a stream brings after it has raised is passed on unobserved.

        Args:
            stream: An async iterator or a plain one (one that is both is taken as async); or what makes one: an
                awaitable, a context manager, or a function without arguments, which is called at once.
            about: `agent_name`, `adapter`, `prompt`, `model`, `provider`, `conversation_id`; see `TapOptions`.

        Raises:
            ConfigurationError: `stream` is no stream (a text is none), or there is no such adapter.
        """
        from .sources.tap.opening import tap

        return tap(self, stream, **about)

    def tags(self, **tags: str) -> AbstractContextManager[None]:
        """Tags of every run that starts inside the `with` block, in its tasks and `asyncio.to_thread` too.

        Blocks within blocks add, the inner one wins. A value longer than 256 characters is cut. A block in an async
        generator holds for the runs that the generator starts, and not for those of its consumer; in a plain generator
        it holds for both, as a context variable does.

        Raises:
            ConfigurationError: a value is not a string, a name is longer than 64 characters, or there are more than 32.
        """
        return self._tags_here.block(tags, sys._getframe(1))

    def attempts(self) -> AbstractContextManager[None]:
        """Every run that starts inside the `with` block is a try of the same thing: `attempt` 1, 2 and so on.

        For a program that repeats a whole run. Sub-agents are no attempts of their own. Blocks within blocks: the inner
        one counts.
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
        """Say what you think of a run: an event `score` of the log, which exporters and readers join with the run.

            sidecar.score(result.run_id, "helpful", 0.8, comment="right, and too long")
            sidecar.score(run_id, "reviewed", label="pass")

        The run may be in progress or over, by years, and another program's. The latest score of a name counts.
        `sidestream note` does the same from a shell.

        Args:
            run_id: The whole id of the run.
            name: What is judged: of a bounded set, for metrics are counted by it.
            value: A number, `True` or `False`; None where the label says it all.
            label: The judgement in a word.
            comment: Why. It is content, and obeys each exporter's policy.

        Raises:
            ConfigurationError: it says nothing, or a part is of the wrong type.
        """
        if not isinstance(run_id, str) or not run_id:
            raise ConfigurationError(f"score: the run {run_id!r} must be the id of one, such as result.run_id")
        score = checked_score(name, value, label=label, comment=comment)
        if not self.active:
            if not self.disabled:
                warn_once("score() on a sidecar that is closed: it will not be recorded")
            return
        self._pipeline.put(Scored(run_id, time.time_ns(), score))
        self._pipeline.start()
        self._pipeline.wake()

    # --- life ---

    def flush(self, timeout: float = 5.0) -> dict[str, int]:
        """Deliver what has been seen so far, within `timeout` seconds.

        Returns by exporter how many events were not delivered: empty when all were.
        """
        self._flush_deltas()
        return self._pipeline.flush(timeout)

    def close(self, timeout: float | None = None) -> dict[str, int]:
        """Deliver what is pending and release the exporters, within `timeout` seconds (default `close_timeout`).

        Returns by exporter how many events were not delivered: empty when all were. Observed agents go on unobserved.
        A run still in progress has no `agent_end` in the log, and readers will call it lost. Twice is once.
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
        """The statistics of every exporter and of the sidecar itself, as of the exporters' last calls."""
        pending_records = self._pipeline.pending_records  # before the exporters': a record is in one of them or in both
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

    # --- what the observer needs ---

    def open_run(self, run_id: str, agent_name: str | None, parent: Link | None) -> RunRecorder:
        """A run begins, under `parent` if it runs inside another."""
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
        """A run is over. Takes no lock: the garbage collector may end a run anywhere."""
        self._runs.pop(run.key, None)
        self._pipeline.wake()

    def trouble(self, error: Exception) -> None:
        """Count a failure of our own; a worker logs it, for logging may block."""
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
            error_once("recording failed, the run went on", self._last_trouble, exception=self._last_trouble)

    def after_fork(self) -> None:
        """In a forked child: start with empty statistics and workers of its own."""
        self._lock = threading.RLock()
        for run in self._runs.values():
            run.disown()  # it is the parent's, and a tap that came along must not record it twice
        self._runs.clear()
        self._run_count = self._recording_errors = 0
        self._assembler.forget_runs()
        this_process()  # see there: it is another process now
        if self._observer is not None:
            from .sources.pydantic_ai import caller_exit

            caller_exit.after_fork()
            self._observer.forget_runs()
        self._pipeline.after_fork()


_live: weakref.WeakSet[Sidecar] = weakref.WeakSet()
exit_hooks.register(_live)
