"""Generator of docs/metrics.md from the table of metrics: `python -m tests.support.metrics_page`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sidestream.metrics.definitions import LABELS, METRICS, Metric
from sidestream.metrics.store import MAX_VALUES, SERIES_PER_VALUE

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

INTRODUCTION = f"""\
# Metrics

The metrics of the [Prometheus exporter](exporters.md#prometheus), and of the OTLP exporter with `metrics=true`.

- Every event is counted, whether or not its trace is sampled.
- Unknown values are not counted: a request without usage adds no tokens, and a request without a price adds no cost.
  `sidestream_unpriced_requests_total` counts these requests.
- Tokens and cost are each run's own. A sub-agent counts under its own name, so the sum over agents is the total.

**Labels** contain names, never ids, prompts or error texts. A label has at most {MAX_VALUES} values (`label_values`),
and a metric at most {SERIES_PER_VALUE} times as many time series. Further values are counted as `other`, and in
`sidestream_label_overflow_total`. A tool name invented by the model is counted as `unknown`.

**Exemplars** exist in the OpenMetrics format only: the last one of each histogram bucket and of each counter. They have
`run_id`, and `trace_id` and `span_id` if the trace is kept. Prometheus stores them with
`--enable-feature=exemplar-storage`.

**Native histograms** (`histograms=native`) have the name of the metric, without `_bucket`, `_sum` and `_count`:
`histogram_quantile(0.95, sum(rate(sidestream_time_to_first_token_seconds[5m])))`. See
[Prometheus](exporters.md#prometheus).

This page is generated from `telemetry/sidestream/metrics/definitions.py` by `python -m tests.support.metrics_page`.
"""

GROUPS = (
    ("OpenTelemetry's conventions for GenAI", "gen_ai_", "runs"),
    ("Runs, tokens, cost and streams", "sidestream_", "runs"),
    ("The sidecar itself", "sidestream_", "stats"),
)

_FIRST_WORD = 'sidestream_time_to_first_token_seconds_bucket{kind="text"}'
_CACHED, _INPUT = (f'sidestream_tokens_total{{type="{kind}"}}' for kind in ("cache_read", "input"))
_TOKENS = 'sidestream_tokens_total{type=~"input|output"}'

QUERIES = {
    "runs per second that fail, by agent": 'sum by (agent) (rate(sidestream_runs_total{outcome="error"}[5m]))',
    "dollars per hour, by model": "3600 * sum by (model) (rate(sidestream_cost_usd_total[5m]))",
    "95th percentile of the time to the first text": f"histogram_quantile(0.95, sum by (le) (rate({_FIRST_WORD}[5m])))",
    "tokens per run": f"sum(rate({_TOKENS}[5m])) / sum(rate(sidestream_runs_total[5m]))",
    "share of input that came from the cache": f"sum(rate({_CACHED}[5m])) / sum(rate({_INPUT}[5m]))",
    "tools that fail": 'sum by (tool) (rate(sidestream_tool_calls_total{outcome="failed"}[5m]))',
    "is telemetry being lost?": 'sum by (exporter, reason) (rate(sidestream_events_total{state="dropped"}[5m]))',
}


def made() -> str:
    """Contents of the page."""
    parts = [INTRODUCTION]
    for title, prefix, source in GROUPS:
        parts.append(f"## {title}\n\n| metric | kind | unit | meaning | labels |\n|---|---|---|---|---|")
        chosen = [m for m in METRICS if m.name.startswith(prefix) and m.source == source]
        parts[-1] += "".join(f"\n{row}" for row in map(_row, chosen)) + "\n"
    parts.append("## Buckets\n\n| histogram | upper bounds |\n|---|---|\n" + "\n".join(_buckets()) + "\n")
    labels = "\n".join(f"| `{label}` | {meaning} |" for label, meaning in LABELS.items())
    parts.append(f"## Labels\n\n| label | meaning |\n|---|---|\n{labels}\n")
    names = "\n".join(f"| `{m.name}` | `{m.otlp}` |" for m in METRICS)
    parts.append(f"## Names in OTLP\n\n| in Prometheus | instrument |\n|---|---|\n{names}\n")
    queries = "\n".join(f"| {question} | `{_cell(query)}` |" for question, query in QUERIES.items())
    parts.append(f"## Questions and queries\n\n| question | query |\n|---|---|\n{queries}\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {metric.unit} | {metric.help} | {labels} |"


def _buckets() -> Iterator[str]:
    for metric in METRICS:
        if metric.kind == "histogram":
            yield f"| `{metric.name}` | {' '.join(f'{bound:.12g}' for bound in metric.buckets)} |"


if __name__ == "__main__":
    PAGE.write_text(made(), "utf-8")
