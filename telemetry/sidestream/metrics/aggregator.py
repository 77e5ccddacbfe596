"""Aggregation of events into the metrics of the table, for Prometheus and OTLP.

    aggregator = MetricsAggregator()
    for event in events:            # of any number of runs at once
        aggregator.add(event)
    aggregator.snapshot()             # from any thread

Memory is bounded despite runs that never end, lost events and unlimited label values. Unknown values are not counted: a
request without usage adds no tokens, a request without a price no cost.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, get_args

from sidestream.events import (
    AgentEnd,
    AgentStart,
    LLMChunk,
    LLMEnd,
    LLMStart,
    Retry,
    RunOutcome,
    Score,
    StreamEvent,
    StreamEventType,
    ToolEnd,
    ToolStart,
    Usage,
    is_partial,
    is_unmeasured,
)
from sidestream.events.ids import span_id_of
from sidestream.events.outcomes import verdict_of
from sidestream.recording.pricing import CacheEffect, cache_effect
from sidestream.stats import SidecarStats

from .definitions import OTHER, UNKNOWN, convention_name
from .native import NativeStore
from .store import MAX_VALUES, Origin, Point, Series, Store, printable

MAX_RUNS = 10_000
"""Maximum number of runs in progress to remember; beyond, the run without events for the longest time is forgotten."""
MAX_OPEN = 100
"""Maximum number of open requests, and of open tool calls, to remember per run."""
MAX_ID = 50
"""Maximum length in characters of a run id in an exemplar, whose labels may have 128 characters in total."""
MAX_REASONS = 20
"""Maximum number of distinct drop reasons, since exporters may report their own."""

_CHUNK_GAP = "gen_ai_client_operation_time_per_output_chunk_seconds"

_NO_ERROR = frozenset({"ok", "neutral"})
"""Verdicts for which `error_type` is empty."""

_TRACE_ID = re.compile("[0-9a-f]{32}")

_TOKENS = ("input", "output", "cache_read", "cache_write", "reasoning")


class _Request:
    """Model request in progress, with the gaps between its chunks in microseconds."""

    __slots__ = ("bounds", "counts", "last", "longest", "provider", "seq", "total")

    def __init__(self, seq: int, provider: str | None, bounds: list[int]) -> None:
        self.seq = seq
        self.provider = provider
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0
        self.longest = -1
        self.last: int | None = None
        """Arrival of the last chunk, in microseconds since the start of the run."""

    def cap_gaps(self, end: LLMEnd) -> None:
        """Remove the program's own time from the gaps, because chunks arrive only when the program pulls.

        No gap may exceed the longest wait for the provider, nor the sum of the gaps the total wait.
        """
        if not end.consumer_hold_seconds or end.gap_max_seconds is None:
            return
        self.longest = min(self.longest, round(end.gap_max_seconds * 1e6))
        highest = bisect_left(self.bounds, self.longest)
        self.counts[highest] += sum(self.counts[highest + 1 :])
        self.counts[highest + 1 :] = [0] * (len(self.counts) - highest - 1)
        if end.provider_wait_seconds is not None:
            self.total = min(self.total, round(end.provider_wait_seconds * 1e6))


class _Run:
    """State of a run in progress."""

    __slots__ = ("agent", "gauge", "model", "parent_agent", "requests", "tags", "tools", "trace_id")

    def __init__(self) -> None:
        self.agent = ""
        self.model = ""
        self.parent_agent = UNKNOWN
        self.tags: list[tuple[str, str]] = []
        """Names and values of the tags used as labels."""
        self.trace_id: str | None = None
        self.gauge: Series | None = None
        """Time series of `sidestream_runs_in_progress` that includes the run; None if not included."""
        self.requests: dict[int | None, _Request] = {}
        self.tools: dict[str | None, int] = {}
        """Sequence numbers of `tool_start` events, by tool call id."""


class MetricsAggregator:
    """Feeds a `Store` with events.

    Args:
        max_values: Maximum number of distinct values of one label; further values become `other`.
        label_tags: Names of tags by which runs, tokens and cost are also counted.
        native: Whether histograms have native buckets too.
    """

    skip = frozenset({"progress", "final_result", "error", "custom"})
    """Event types without metrics."""

    def __init__(self, max_values: int = MAX_VALUES, label_tags: Sequence[str] = (), *, native: bool = False) -> None:
        self.store = NativeStore(max_values) if native else Store(max_values)
        self._gap_bounds = [round(bound * 1e6) for bound in self.store.bounds(_CHUNK_GAP)]
        """Bounds in microseconds of the buckets in which the gaps of a request are counted."""
        self._label_tags = tuple(dict.fromkeys(label_tags))
        self._runs: dict[str, _Run] = {}
        self._handlers: dict[StreamEventType, Callable[[_Run, StreamEvent, Any], None]] = {
            StreamEventType.AGENT_START: self._agent_start,
            StreamEventType.LLM_START: self._llm_start,
            StreamEventType.LLM_CHUNK: self._llm_chunk,
            StreamEventType.LLM_END: self._llm_end,
            StreamEventType.TOOL_START: self._tool_start,
            StreamEventType.TOOL_END: self._tool_end,
            StreamEventType.RETRY: self._retry,
            StreamEventType.AGENT_END: self._agent_end,
        }

    def add(self, event: StreamEvent) -> None:
        """Count `event` atomically with respect to snapshots. Event types in `skip` are ignored."""
        if event.event_type is StreamEventType.SCORE:
            with self.store.lock:
                self._score(event, event.data)
            return
        handler = self._handlers.get(event.event_type)
        if handler is not None:
            with self.store.lock:
                handler(self._run(event), event, event.data)
                if len(self._runs) > MAX_RUNS:
                    self._no_longer_in_progress(self._runs.pop(next(iter(self._runs))))

    def snapshot(self, stats: SidecarStats | None = None) -> dict[str, list[Point]]:
        """Points of every time series by metric; those fed by runs are from the same moment.

        Metrics of the sidecar itself are made from `stats`, and omitted without.
        """
        return self.store.snapshot() | (_stats_points(stats, self.store) if stats else {})

    def _run(self, event: StreamEvent) -> _Run:
        run = self._runs.pop(event.run_id, None) or _Run()
        self._runs[event.run_id] = run  # move to the end: dicts preserve insertion order
        run.agent = event.agent_name or ""
        return run

    @staticmethod
    def _no_longer_in_progress(run: _Run) -> None:
        if run.gauge is not None:
            run.gauge.value -= 1
            run.gauge = None

    # --- runs ---

    def _agent_start(self, run: _Run, event: StreamEvent, data: AgentStart) -> None:
        self._no_longer_in_progress(run)  # a repeated start of the same run
        run.model = data.model or ""
        if self._label_tags:
            tags = data.tags or {}
            run.tags = [(name, tags.get(name, "")) for name in self._label_tags]
        kept = data.sampled is not False and _TRACE_ID.fullmatch(data.trace_id or "")
        run.trace_id = data.trace_id if kept else None
        parent = self._runs.get(data.parent_run_id) if data.parent_run_id else None
        # The event holds the parent's name, valid across restarts; events of older versions do not.
        known = data.parent_agent_name or (parent.agent if parent else UNKNOWN)
        run.parent_agent = known if data.parent_run_id else ""
        run.gauge = self.store.series("sidestream_runs_in_progress", (run.agent, run.model))
        run.gauge.value += 1
        for outcome in get_args(RunOutcome):
            self.store.initialize("sidestream_runs_total", (run.agent, run.parent_agent, outcome))

    def _agent_end(self, run: _Run, event: StreamEvent, data: AgentEnd) -> None:
        del self._runs[event.run_id]
        self._no_longer_in_progress(run)
        error = "" if verdict_of(data.outcome) in _NO_ERROR else _error_type(data, "error")
        origin = _origin(run, event)
        duration = data.duration_seconds
        self.store.observe("gen_ai_invoke_agent_duration_seconds", (run.agent, error), duration, origin)
        self.store.add("sidestream_runs_total", (run.agent, run.parent_agent, data.outcome), 1, origin)
        for tag in run.tags:
            self.store.add("sidestream_tag_runs_total", (*tag, data.outcome), 1, origin)
        if data.total_iterations is not None:
            self.store.observe("sidestream_run_requests", (run.agent,), data.total_iterations, origin)

    def _score(self, event: StreamEvent, data: Score) -> None:
        """Count a score. The run may be over or belong to another program, so no state of a run is used."""
        run = _Run()
        run.agent = event.agent_name or ""
        run.trace_id = data.trace_id if _TRACE_ID.fullmatch(data.trace_id or "") else None
        origin = _origin(run, event, data.span_id)
        self.store.add("sidestream_scores_total", (run.agent, data.name, data.label or ""), 1, origin)
        if data.number is not None:
            self.store.observe("sidestream_score_value", (run.agent, data.name), data.number, origin)

    # --- requests ---

    def _llm_start(self, run: _Run, event: StreamEvent, data: LLMStart) -> None:
        _bound(run.requests)
        run.requests[data.request] = _Request(event.seq, data.provider, self._gap_bounds)
        for outcome in ("ok", "error"):
            self.store.initialize("sidestream_requests_total", (run.agent, data.provider or "", data.model, outcome))

    def _llm_chunk(self, run: _Run, event: StreamEvent, data: LLMChunk) -> None:
        request = run.requests.get(data.request)
        if request is None:
            _bound(run.requests)
            request = run.requests[data.request] = _Request(0, None, self._gap_bounds)
        start = round(event.offset * 1e6)
        before, bounds, counts = request.last, request.bounds, request.counts
        for offset in data.offsets_us or (0,):
            at = start + offset
            if before is not None:
                gap = at - before
                if gap < 0:  # parts streamed in parallel
                    continue
                counts[bisect_left(bounds, gap)] += 1
                request.total += gap
                if gap > request.longest:
                    request.longest = gap
            before = at
        request.last = before

    def _llm_end(self, run: _Run, event: StreamEvent, data: LLMEnd) -> None:
        request = run.requests.pop(data.request, None) or _Request(0, None, self._gap_bounds)
        model = data.model or run.model
        provider = data.provider or request.provider or ""
        error = "" if verdict_of(data.outcome) in _NO_ERROR else _error_type(data, "error")
        chat = ("chat", convention_name(provider), model, data.response_model or "", error)
        where = (run.agent, provider, model)
        origin = _origin(run, event, data.span_id, request.seq)

        if data.outcome != "skipped" and not data.start_unknown:  # no request was sent, or the duration is unknown
            name = "gen_ai_client_operation_duration_seconds"
            self.store.observe(name, chat, data.duration_seconds, origin)
        self.store.add("sidestream_requests_total", (*where, data.outcome), 1, origin)
        self._used(run, data.usage, where, chat[:-1], origin)
        self._paid(run, data.cost_usd, bool(data.unpriced), where, origin)
        if is_partial(data) or is_unmeasured(data):
            self.store.add("sidestream_uncounted_requests_total", where, 1, origin)
        if (effect := _cache_effect(data, provider)) is not None:
            self.store.add("sidestream_cache_saved_usd_total", where, effect.saved, origin)
            self.store.add("sidestream_cache_write_usd_total", where, effect.spent, origin)
        for tried in data.failed_attempts or ():
            other = tried.provider or ""
            where = (run.agent, other, tried.model)
            self._used(run, tried.usage, where, ("chat", convention_name(other), tried.model, ""), origin)
            self._paid(run, tried.cost_usd, tried.usage is not None and tried.cost_usd is None, where, origin)
        if data.streaming is not False:
            self._streamed(data, request, (run.agent, model), chat, origin)

    def _used(
        self,
        run: _Run,
        usage: Usage | None,
        where: tuple[str, ...],
        chat: tuple[str, ...],
        origin: Origin | None,
    ) -> None:
        for kind in _TOKENS if usage is not None else ():
            tokens = getattr(usage, f"{kind}_tokens")
            if tokens is not None:
                self.store.add("sidestream_tokens_total", (*where, kind), tokens, origin)
                if kind in ("input", "output"):
                    self.store.observe("gen_ai_client_token_usage", (*chat, kind), tokens, origin)
                    for tag in run.tags:
                        self.store.add("sidestream_tag_tokens_total", (*tag, kind), tokens, origin)

    def _paid(
        self, run: _Run, cost_usd: float | None, unpriced: bool, where: tuple[str, ...], origin: Origin | None
    ) -> None:
        if cost_usd is not None:
            self.store.add("sidestream_cost_usd_total", where, cost_usd, origin)
            for tag in run.tags:
                self.store.add("sidestream_tag_cost_usd_total", tag, cost_usd, origin)
        if unpriced:
            self.store.add("sidestream_unpriced_requests_total", where, 1, origin)
            for tag in run.tags:
                self.store.add("sidestream_tag_unpriced_requests_total", tag, 1, origin)

    def _streamed(
        self, data: LLMEnd, request: _Request, where: tuple[str, ...], chat: tuple[str, ...], origin: Origin | None
    ) -> None:
        store = self.store
        if data.time_to_first_chunk_seconds is not None:
            name = "gen_ai_client_operation_time_to_first_chunk_seconds"
            store.observe(name, chat, data.time_to_first_chunk_seconds, origin)
        for kind, seconds in (data.time_to_first_token_seconds or {}).items():
            store.observe("sidestream_time_to_first_token_seconds", (*where, kind), seconds, origin)
        if request.longest >= 0:
            request.cap_gaps(data)
            series = store.merge(_CHUNK_GAP, chat, request.total / 1e6, request.counts)
            if origin is not None:
                longest = request.longest / 1e6
                series.exemplars[bisect_left(series.buckets, longest)] = (longest, origin)
        for name, amount in (
            ("sidestream_stream_stalls_total", data.stalls),
            ("sidestream_provider_wait_seconds_total", data.provider_wait_seconds),
            ("sidestream_consumer_hold_seconds_total", data.consumer_hold_seconds),
        ):
            if amount is not None:
                store.add(name, where, amount, origin if amount else None)

    # --- tools and retries ---

    def _tool_start(self, run: _Run, event: StreamEvent, data: ToolStart) -> None:
        _bound(run.tools)
        run.tools[data.tool_call_id] = event.seq

    def _tool_end(self, run: _Run, event: StreamEvent, data: ToolEnd) -> None:
        tool = UNKNOWN if data.outcome == "unknown" else data.tool_name
        origin = _origin(run, event, data.span_id, run.tools.pop(data.tool_call_id, 0))
        if data.duration_seconds is not None:
            failed = data.outcome in ("failed", "retry", "cancelled")
            labels = (run.agent, tool, _error_type(data, "failed") if failed else "")
            self.store.observe("gen_ai_execute_tool_duration_seconds", labels, data.duration_seconds, origin)
        self.store.add("sidestream_tool_calls_total", (run.agent, tool, data.outcome), 1, origin)
        if tool != UNKNOWN:  # only an executed call proves that the tool exists
            self.store.initialize("sidestream_tool_calls_total", (run.agent, tool, "failed"))

    def _retry(self, run: _Run, event: StreamEvent, data: Retry) -> None:
        tool = UNKNOWN if data.cause == "unknown_tool" else data.tool_name or ""
        self.store.add("sidestream_retries_total", (run.agent, tool, data.cause), 1, _origin(run, event))


def _bound(open_ones: dict[Any, Any]) -> None:
    """Make room for one more entry by removing the oldest, whose end was lost."""
    if len(open_ones) >= MAX_OPEN:
        del open_ones[next(iter(open_ones))]


def _error_type(data: AgentEnd | LLMEnd | ToolEnd, failed: str) -> str:
    """Exception type if the outcome is `failed` and the type is known; otherwise the outcome."""
    return (data.exception_type if data.outcome == failed else None) or data.outcome


def _origin(run: _Run, event: StreamEvent, span_id: str | None = None, seq: int = 0) -> Origin | None:
    """Origin with the span `span_id`; if None (older logs), with the span started by event `seq` (0: the run's own
    span).

    None if neither trace nor run id can be reported.
    """
    run_id = event.run_id if len(event.run_id) <= MAX_ID and event.run_id.isascii() else ""
    if run.trace_id is not None:
        if span_id is None or len(span_id) != 16 or not span_id.isascii():
            span_id = span_id_of(event.run_id, seq)
        return Origin(run.trace_id, span_id, run_id, event.timestamp.timestamp())
    return Origin("", "", run_id, event.timestamp.timestamp()) if run_id else None


def _cache_effect(data: LLMEnd, provider: str) -> CacheEffect | None:
    model, usage = data.response_model or data.model, data.usage
    if usage is None or data.cost_source != "genai-prices" or not model:
        return None
    if not usage.cache_read_tokens and not usage.cache_write_tokens:
        return None
    return cache_effect(usage, model=model, provider=provider or None)


# --- the sidecar's stats -------------------------------------------------------------------------------------------


def _stats_points(stats: SidecarStats, store: Store) -> dict[str, list[Point]]:
    named = stats.exporters.items()
    count = partial(Point, created=store.started)
    return {
        "sidestream_events_total": [
            *(count((name, "exported", ""), each.exported) for name, each in named),
            *(count((name, "dropped", reason), n) for name, each in named for reason, n in _reasons(each.dropped)),
        ],
        "sidestream_queue_events": [Point((name,), each.pending) for name, each in named],
        "sidestream_exporter_failures_total": [count((name,), each.failures) for name, each in named],
        "sidestream_exporter_failing": [Point((name,), int(each.state == "failing")) for name, each in named],
        "sidestream_exporter_busy_seconds": [Point((name,), each.busy_seconds or 0.0) for name, each in named],
        "sidestream_exporter_last_success_timestamp_seconds": [
            Point((name,), each.last_success) for name, each in named if each.last_success is not None
        ],
        "sidestream_recording_errors_total": [count((), stats.recording_errors)],
        "sidestream_label_overflow_total": [count((label,), n) for label, n in store.overflow.copy().items()],
        "sidestream_start_time_seconds": [Point((), store.started)],
        "sidestream_build_info": [Point((_version(),), 1)],
    }


def _reasons(dropped: Mapping[str, int]) -> Iterable[tuple[str, int]]:
    counts: dict[str, int] = {}
    for reason, count in dropped.items():
        reason = printable(str(reason)) if len(counts) < MAX_REASONS else OTHER
        counts[reason] = counts.get(reason, 0) + count
    return counts.items()


@cache
def _version() -> str:
    try:
        return version("sidestream")
    except PackageNotFoundError:  # running from a source tree without installation
        return UNKNOWN
