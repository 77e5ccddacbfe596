"""Table of all metrics: names, meaning, units, labels and buckets.

Source for the Prometheus exporter, OTLP metrics, the documentation and the dashboards. `gen_ai_*` names are those of
OpenTelemetry's GenAI semantic conventions (core semconv 1.41) as translated by Prometheus; `sidestream_*` are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Source: TypeAlias = Literal["runs", "stats"]
"""Source of a metric: events of runs, or statistics of the sidecar."""

LABELS: dict[str, str] = {
    "gen_ai_operation_name": "Operation: chat.",
    "gen_ai_provider_name": "Provider of the model, as in the GenAI conventions (openai, anthropic, aws.bedrock).",
    "gen_ai_request_model": "Requested model.",
    "gen_ai_response_model": "Model in the response; empty without a response.",
    "gen_ai_token_type": "input or output.",
    "gen_ai_agent_name": "Name of the agent.",
    "gen_ai_tool_name": "Name of the tool; `unknown` for a name invented by the model.",
    "error_type": "Exception type, or the outcome if there was no exception (cancelled …); empty on success.",
    "agent": "Name of the agent.",
    "parent_agent": "Name of the agent that started the run; empty for a root run.",
    "provider": "Provider of the model.",
    "model": "Requested model.",
    "tool": "Name of the tool; `unknown` for a name invented by the model, empty if no tool is involved.",
    "outcome": "Outcome of the run, request or tool call.",
    "cause": "Cause of the retry: validation_error, model_retry, unknown_tool, no_output …",
    "type": "input, output, cache_read, cache_write or reasoning; input includes the cache, output the reasoning.",
    "score": "Name of the score.",
    "judgement": "Label of the score, such as pass; empty without a label.",
    "tag": "Name of a tag of runs.",
    "value": "Value of the tag; empty for runs without the tag.",
    "kind": "Kind of the first piece: text, thinking or tool_call.",
    "exporter": "Name of the exporter.",
    "state": "exported or dropped.",
    "reason": "Reason for a dropped event: overflow, error, closed, shutdown, rejected …; empty for exported events.",
    "label": "Label with too many values; `*` for too many combinations of labels.",
    "version": "Version of Sidestream.",
}
"""Labels with their meanings. Values come from bounded sets, or are capped: see `OTHER`."""

OTHER = "other"
"""Replacement for label values beyond the cap."""

UNKNOWN = "unknown"
"""Label value for a tool name invented by a model, or a parent whose run is unknown."""

_PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock-mantle": "aws.bedrock",
    "google": "gcp.gemini",
    "google-cloud": "gcp.vertex_ai",
    "google-gla": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}


def convention_name(provider: str) -> str:
    """Name of a provider in the GenAI conventions (`gen_ai.provider.name`); other names are returned unchanged."""
    return _PROVIDERS.get(provider, provider)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Definition of one metric."""

    name: str
    """Name in Prometheus, with `_total` for counters."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets."""
    unit: str = ""
    """Unit of the OTLP metric in UCUM."""
    otlp: str
    """Name of the OTLP instrument. Prometheus derives `name` from this name, `unit` and `kind`; a `unit` in braces
    names the counted items, and adds nothing to `name`."""
    source: Source = "runs"

    @property
    def series(self) -> tuple[str, ...]:
        """Names of the time series available to queries."""
        if self.kind != "histogram":
            return (self.name,)
        return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")


def _doubling(first: float, last: float, factor: int = 2) -> tuple[float, ...]:
    bounds = [first]
    while bounds[-1] < last:
        bounds.append(round(bounds[-1] * factor, 6))
    return tuple(bounds)


DURATION = (*_doubling(0.01, 81.92), 163.84, 327.68, 600.0)
"""Buckets for the duration of one operation, in seconds."""
FIRST = _doubling(0.01, 81.92)
"""Buckets for the time to the first chunk or token, in seconds."""
GAP = _doubling(0.001, 16.384)
"""Buckets for the time between two chunks, in seconds."""
TOKENS = tuple(float(4**power) for power in range(14))
RUN = _doubling(0.1, 409.6)
"""Buckets for the duration of a run, in seconds."""
REQUESTS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 128.0)

SCORE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 100.0)

_CHAT = (
    *("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"),
    "error_type",
)

METRICS: tuple[Metric, ...] = (
    # --- OpenTelemetry's GenAI conventions ---
    Metric(
        name="gen_ai_client_operation_duration_seconds",
        otlp="gen_ai.client.operation.duration",
        kind="histogram",
        unit="s",
        help="Duration of model requests.",
        labels=_CHAT,
        buckets=DURATION,
    ),
    Metric(
        name="gen_ai_client_operation_time_to_first_chunk_seconds",
        otlp="gen_ai.client.operation.time_to_first_chunk",
        kind="histogram",
        unit="s",
        help="Time from a streaming request to its first chunk.",
        labels=_CHAT,
        buckets=FIRST,
    ),
    Metric(
        name="gen_ai_client_operation_time_per_output_chunk_seconds",
        otlp="gen_ai.client.operation.time_per_output_chunk",
        kind="histogram",
        unit="s",
        help="Time between two chunks of a streaming request, without the time spent by the program.",
        labels=_CHAT,
        buckets=GAP,
    ),
    Metric(
        name="gen_ai_client_token_usage",
        otlp="gen_ai.client.token.usage",
        kind="histogram",
        unit="{token}",
        help="Tokens of model requests: input (including cached) and output (including reasoning).",
        labels=(*_CHAT[:-1], "gen_ai_token_type"),
        buckets=TOKENS,
    ),
    Metric(
        name="gen_ai_invoke_agent_duration_seconds",
        otlp="gen_ai.invoke_agent.duration",
        kind="histogram",
        unit="s",
        help="Duration of agent runs.",
        labels=("gen_ai_agent_name", "error_type"),
        buckets=RUN,
    ),
    Metric(
        name="gen_ai_execute_tool_duration_seconds",
        otlp="gen_ai.execute_tool.duration",
        kind="histogram",
        unit="s",
        help="Duration of executed tool calls.",
        labels=("gen_ai_agent_name", "gen_ai_tool_name", "error_type"),
        buckets=DURATION,
    ),
    # --- runs ---
    Metric(
        name="sidestream_runs_total",
        otlp="sidestream.runs",
        kind="counter",
        unit="{run}",
        help="Ended runs, by outcome: completed, error, cancelled, timed_out, abandoned; lost, if collected.",
        labels=("agent", "parent_agent", "outcome"),
    ),
    Metric(
        name="sidestream_runs_in_progress",
        otlp="sidestream.runs.in_progress",
        kind="gauge",
        unit="{run}",
        help="Runs in progress.",
        labels=("agent", "model"),
    ),
    Metric(
        name="sidestream_run_requests",
        otlp="sidestream.run.requests",
        kind="histogram",
        unit="{request}",
        help="Model requests per run.",
        labels=("agent",),
        buckets=REQUESTS,
    ),
    Metric(
        name="sidestream_requests_total",
        otlp="sidestream.requests",
        kind="counter",
        unit="{request}",
        help="Ended model requests, by outcome: ok, error, cancelled, interrupted, skipped, retry.",
        labels=("agent", "provider", "model", "outcome"),
    ),
    Metric(
        name="sidestream_tool_calls_total",
        otlp="sidestream.tool_calls",
        kind="counter",
        unit="{call}",
        help="Ended tool calls, by outcome: ok, retry, failed, deferred, denied, invalid, unknown, cancelled …",
        labels=("agent", "tool", "outcome"),
    ),
    Metric(
        name="sidestream_retries_total",
        otlp="sidestream.retries",
        kind="counter",
        unit="{retry}",
        help="Retries of the model after a rejected answer or tool call.",
        labels=("agent", "tool", "cause"),
    ),
    # --- tokens and cost ---
    Metric(
        name="sidestream_tokens_total",
        otlp="sidestream.tokens",
        kind="counter",
        unit="{token}",
        help="Tokens used, failed fallback attempts included. input includes cache_read and cache_write, output "
        "includes reasoning.",
        labels=("agent", "provider", "model", "type"),
    ),
    Metric(
        name="sidestream_cost_usd_total",
        otlp="sidestream.cost.usd",
        kind="counter",
        unit="{USD}",
        help="Cost of each run's own requests in US dollars.",
        labels=("agent", "provider", "model"),
    ),
    Metric(
        name="sidestream_cache_saved_usd_total",
        otlp="sidestream.cache_saved.usd",
        kind="counter",
        unit="{USD}",
        help="US dollars saved by reads from the provider's prompt cache.",
        labels=("agent", "provider", "model"),
    ),
    Metric(
        name="sidestream_cache_write_usd_total",
        otlp="sidestream.cache_write.usd",
        kind="counter",
        unit="{USD}",
        help="Additional US dollars for writes to the provider's prompt cache, compared to plain input. Net savings: "
        "sidestream_cache_saved_usd_total minus this metric.",
        labels=("agent", "provider", "model"),
    ),
    Metric(
        name="sidestream_unpriced_requests_total",
        otlp="sidestream.unpriced_requests",
        kind="counter",
        unit="{request}",
        help="Requests with token usage but no known price: their cost is missing.",
        labels=("agent", "provider", "model"),
    ),
    Metric(
        name="sidestream_uncounted_requests_total",
        otlp="sidestream.uncounted_requests",
        kind="counter",
        unit="{request}",
        help="Requests with unknown or incomplete token usage (cut off in mid-stream): the sums of tokens and cost are "
        "lower bounds.",
        labels=("agent", "provider", "model"),
    ),
    # --- scores of runs ---
    Metric(
        name="sidestream_scores_total",
        otlp="sidestream.scores",
        kind="counter",
        unit="{score}",
        help="Scores of runs (sidecar.score, sidestream note), by name and label; a run scored again counts again.",
        labels=("agent", "score", "judgement"),
    ),
    Metric(
        name="sidestream_score_value",
        otlp="sidestream.score.value",
        kind="histogram",
        unit="{score}",
        help="Values of scores, true as 1; the scale depends on the name.",
        labels=("agent", "score"),
        buckets=SCORE,
    ),
    # --- by tag, for the tags in `label_tags` ---
    Metric(
        name="sidestream_tag_runs_total",
        otlp="sidestream.tag.runs",
        kind="counter",
        unit="{run}",
        help="Ended runs, by the value of a tag in label_tags, and by outcome.",
        labels=("tag", "value", "outcome"),
    ),
    Metric(
        name="sidestream_tag_tokens_total",
        otlp="sidestream.tag.tokens",
        kind="counter",
        unit="{token}",
        help="Tokens used, by the value of a tag in label_tags: input and output, which include the other types.",
        labels=("tag", "value", "type"),
    ),
    Metric(
        name="sidestream_tag_cost_usd_total",
        otlp="sidestream.tag.cost.usd",
        kind="counter",
        unit="{USD}",
        help="Cost in US dollars, by the value of a tag in label_tags.",
        labels=("tag", "value"),
    ),
    Metric(
        name="sidestream_tag_unpriced_requests_total",
        otlp="sidestream.tag.unpriced_requests",
        kind="counter",
        unit="{request}",
        help="Requests with unknown cost, by the value of a tag in label_tags.",
        labels=("tag", "value"),
    ),
    # --- streaming ---
    Metric(
        name="sidestream_time_to_first_token_seconds",
        otlp="sidestream.time_to_first_token",
        kind="histogram",
        unit="s",
        help="Time from a request to its first non-empty piece of text, thinking or a tool call.",
        labels=("agent", "model", "kind"),
        buckets=FIRST,
    ),
    Metric(
        name="sidestream_stream_stalls_total",
        otlp="sidestream.stream.stalls",
        kind="counter",
        unit="{stall}",
        help="Waits for the provider within a stream longer than stall_seconds.",
        labels=("agent", "model"),
    ),
    Metric(
        name="sidestream_provider_wait_seconds_total",
        otlp="sidestream.provider_wait",
        kind="counter",
        unit="s",
        help="Time that open streams waited for the provider.",
        labels=("agent", "model"),
    ),
    Metric(
        name="sidestream_consumer_hold_seconds_total",
        otlp="sidestream.consumer_hold",
        kind="counter",
        unit="s",
        help="Time that open streams waited for the program to request the next event.",
        labels=("agent", "model"),
    ),
    # --- the sidecar itself ---
    Metric(
        name="sidestream_events_total",
        otlp="sidestream.events",
        kind="counter",
        unit="{event}",
        help="Events exported or dropped by an exporter. Together with sidestream_queue_events: all events seen.",
        labels=("exporter", "state", "reason"),
        source="stats",
    ),
    Metric(
        name="sidestream_queue_events",
        otlp="sidestream.queue.events",
        kind="gauge",
        unit="{event}",
        help="Events waiting for an exporter.",
        labels=("exporter",),
        source="stats",
    ),
    Metric(
        name="sidestream_exporter_failures_total",
        otlp="sidestream.exporter.failures",
        kind="counter",
        unit="{failure}",
        help="Failed calls of an exporter.",
        labels=("exporter",),
        source="stats",
    ),
    Metric(
        name="sidestream_exporter_failing",
        otlp="sidestream.exporter.failing",
        kind="gauge",
        help="1 if the last call of an exporter failed, and the exporter is paused before the next call; otherwise 0.",
        labels=("exporter",),
        source="stats",
    ),
    Metric(
        name="sidestream_exporter_busy_seconds",
        otlp="sidestream.exporter.busy",
        kind="gauge",
        unit="s",
        help="Duration of an exporter's current call, 0 between calls; large if the exporter hangs.",
        labels=("exporter",),
        source="stats",
    ),
    Metric(
        name="sidestream_exporter_last_success_timestamp_seconds",
        otlp="sidestream.exporter.last_success.timestamp",
        kind="gauge",
        unit="s",
        help="Unix time of an exporter's last delivered batch.",
        labels=("exporter",),
        source="stats",
    ),
    Metric(
        name="sidestream_recording_errors_total",
        otlp="sidestream.recording_errors",
        kind="counter",
        unit="{error}",
        help="Internal failures of Sidestream while recording a run. Runs are unaffected; each failure is a bug.",
        source="stats",
    ),
    Metric(
        name="sidestream_label_overflow_total",
        otlp="sidestream.label_overflow",
        kind="counter",
        unit="{observation}",
        help="Observations counted under the label value 'other', because the label has too many values.",
        labels=("label",),
        source="stats",
    ),
    Metric(
        name="sidestream_start_time_seconds",
        otlp="sidestream.start_time",
        kind="gauge",
        unit="s",
        help="Unix time of the start of counting. If recent, the first value of a counter is an increase.",
        source="stats",
    ),
    Metric(
        name="sidestream_build_info",
        otlp="sidestream.build.info",
        kind="gauge",
        help="Version of Sidestream as a label; the value is always 1.",
        labels=("version",),
        source="stats",
    ),
)

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS}
