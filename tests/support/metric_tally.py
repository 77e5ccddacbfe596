"""Expected metrics, computed independently from the complete list of events, without other state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import Any, TypeAlias, get_args

from sidestream.events import RunOutcome, StreamEvent
from sidestream.metrics.definitions import BY_NAME, convention_name
from sidestream.recording.pricing import cache_effect

GAPS = "gen_ai_client_operation_time_per_output_chunk_seconds"

Labels: TypeAlias = frozenset[tuple[str, str]]
"""Labels without empty ones, as in Prometheus."""


class Tally:
    """Expected values: `values[name][labels]` lists the increments of a counter, or the observations of a histogram."""

    def __init__(self, events: Sequence[StreamEvent]) -> None:
        self.values: dict[str, dict[Labels, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.gap_sums: dict[Labels, float] = defaultdict(float)
        """Sums of chunk gaps, limited by the total wait; single gaps are limited by the longest wait only."""
        self._events = events
        self._agents = {event.run_id: event.agent_name for event in events}
        self._starts: dict[str, Any] = {e.run_id: e.data for e in events if e.event_type == "agent_start"}
        for event in events:
            handler = getattr(self, f"_{event.event_type}", None)
            if handler is not None:
                handler(event, event.data)

    def sums(self, name: str) -> dict[Labels, float]:
        """Value of each counter or gauge; sum of each histogram."""
        return self.gap_sums if name == GAPS else {labels: sum(seen) for labels, seen in self.values[name].items()}

    def _note(self, name: str, values: Any, *labels: str | None) -> None:
        self.values[name][self._named(name, labels)] += values if isinstance(values, list) else [values]

    @staticmethod
    def _named(name: str, labels: Sequence[str | None]) -> Labels:
        return frozenset((label, text) for label, text in zip(BY_NAME[name].labels, labels, strict=True) if text)

    def _agent_start(self, event: StreamEvent, data: Any) -> None:
        self._note("sidestream_runs_in_progress", 1, event.agent_name, data.model)
        for outcome in get_args(RunOutcome):
            parent = self._agents.get(data.parent_run_id)
            self._note("sidestream_runs_total", 0, event.agent_name, parent, outcome)

    def _agent_end(self, event: StreamEvent, data: Any) -> None:
        start = self._starts[event.run_id]
        error = {"completed": "", "error": data.exception_type}.get(data.outcome, data.outcome)
        self._note("gen_ai_invoke_agent_duration_seconds", data.duration_seconds, event.agent_name, error)
        self._note("sidestream_runs_total", 1, event.agent_name, self._agents.get(start.parent_run_id), data.outcome)
        self._note("sidestream_run_requests", data.total_iterations, event.agent_name)
        self._note("sidestream_runs_in_progress", -1, event.agent_name, start.model)

    def _llm_start(self, event: StreamEvent, data: Any) -> None:
        for outcome in ("ok", "error"):
            self._note("sidestream_requests_total", 0, event.agent_name, data.provider, data.model, outcome)

    def _llm_end(self, event: StreamEvent, data: Any) -> None:
        begun = next(
            e.data
            for e in self._events
            if e.run_id == event.run_id and e.event_type == "llm_start" and e.data.request == data.request
        )
        agent, provider = event.agent_name, data.provider or begun.provider
        error = {"ok": "", "retry": "", "error": data.exception_type}.get(data.outcome, data.outcome)
        chat = ("chat", convention_name(provider), data.model, data.response_model, error)
        self._note("gen_ai_client_operation_duration_seconds", data.duration_seconds, *chat)
        self._note("sidestream_requests_total", 1, agent, provider, data.model, data.outcome)
        attempts = [(a.usage, a.cost_usd, a.model, a.provider, None) for a in data.failed_attempts or ()]
        own = (data.usage, data.cost_usd, data.model, provider, data.response_model)
        for used, cost, model, served_by, answered_by in [own, *attempts]:
            for kind in ("input", "output", "cache_read", "cache_write", "reasoning"):
                if used is not None and (tokens := used.get(f"{kind}_tokens")) is not None:
                    self._note("sidestream_tokens_total", tokens, agent, served_by, model, kind)
                    if kind in ("input", "output"):
                        labels = ("chat", convention_name(served_by or ""), model, answered_by, kind)
                        self._note("gen_ai_client_token_usage", tokens, *labels)
            if cost is not None:
                self._note("sidestream_cost_usd_total", cost, agent, served_by, model)
            elif used is not None:
                self._note("sidestream_unpriced_requests_total", 1, agent, served_by, model)
        cached = data.usage is not None and (data.usage.cache_read_tokens or data.usage.cache_write_tokens)
        if cached and data.cost_source == "genai-prices":
            effect = cache_effect(data.usage, model=data.response_model, provider=provider)
            assert effect is not None
            self._note("sidestream_cache_saved_usd_total", effect.saved, agent, provider, data.model)
            self._note("sidestream_cache_write_usd_total", effect.spent, agent, provider, data.model)
        if data.usage_source == "partial" or (data.usage is None and (data.chunks or data.outcome in ("ok", "retry"))):
            self._note("sidestream_uncounted_requests_total", 1, agent, provider, data.model)
        if data.streaming:
            self._streamed(event, data, chat)

    def _streamed(self, event: StreamEvent, data: Any, chat: Sequence[str | None]) -> None:
        if data.time_to_first_chunk_seconds is not None:
            name = "gen_ai_client_operation_time_to_first_chunk_seconds"
            self._note(name, data.time_to_first_chunk_seconds, *chat)
        for kind, seconds in (data.time_to_first_token_seconds or {}).items():
            self._note("sidestream_time_to_first_token_seconds", seconds, event.agent_name, data.model, kind)
        times = sorted(
            round(e.offset * 1e6) + after
            for e in self._events
            if e.run_id == event.run_id and e.event_type == "llm_chunk" and e.data.request == data.request
            for after in e.data.offsets_us or [0]
        )
        if len(times) > 1:
            longest = data.gap_max_seconds if data.consumer_hold_seconds and data.gap_max_seconds else inf
            gaps = [min((b - a) / 1e6, longest) for a, b in pairwise(times)]
            self._note(GAPS, gaps, *chat)
            waited = data.provider_wait_seconds if longest < inf else None
            between = (times[-1] - times[0]) / 1e6
            self.gap_sums[self._named(GAPS, chat)] += between if waited is None else min(between, waited)
        for name, amount in (
            ("sidestream_stream_stalls_total", data.stalls),
            ("sidestream_provider_wait_seconds_total", data.provider_wait_seconds),
            ("sidestream_consumer_hold_seconds_total", data.consumer_hold_seconds),
        ):
            if amount is not None:
                self._note(name, amount, event.agent_name, data.model)

    def _tool_end(self, event: StreamEvent, data: Any) -> None:
        tool = "unknown" if data.outcome == "unknown" else data.tool_name
        self._note("sidestream_tool_calls_total", 1, event.agent_name, tool, data.outcome)
        if tool != "unknown":
            self._note("sidestream_tool_calls_total", 0, event.agent_name, tool, "failed")
        if data.duration_seconds is not None:
            error = {"failed": data.exception_type, "retry": "retry", "cancelled": "cancelled"}.get(data.outcome, "")
            self._note("gen_ai_execute_tool_duration_seconds", data.duration_seconds, event.agent_name, tool, error)

    def _retry(self, event: StreamEvent, data: Any) -> None:
        tool = "unknown" if data.cause == "unknown_tool" else data.tool_name
        self._note("sidestream_retries_total", 1, event.agent_name, tool, data.cause)
