"""Recording rules for expensive queries, and alerts with runbooks.

The thresholds suit a usual fleet; users copy the generated file and adapt them. The runbook of each alert is its
annotation `runbook`, and a section of `docs/alerts.md`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dashboards.queries import Expr, Scope, share
from sidestream.metrics.definitions import METRICS

RULES_FILE = "sidestream.rules.yaml"
FLEET_RULES_FILE = "sidestream.fleet.rules.yaml"
"""Additional rules for fleets of hundreds of hosts."""
NATIVE_RULES_FILE = "sidestream.native.rules.yaml"
"""Additional rules for a Prometheus that stores native histograms."""
ALERTS_PAGE = "../docs/alerts.md"

ALL = Scope()
runs = ALL["sidestream_runs_total"]
requests = ALL["sidestream_requests_total"]
first = ALL["sidestream_time_to_first_token_seconds"]
stalls = ALL["sidestream_stream_stalls_total"]
cost = ALL["sidestream_cost_usd_total"]
unpriced = ALL["sidestream_unpriced_requests_total"]
events = ALL["sidestream_events_total"]
failing = ALL["sidestream_exporter_failing"]
busy = ALL["sidestream_exporter_busy_seconds"]
broken = ALL["sidestream_recording_errors_total"]
build = ALL["sidestream_build_info"]


@dataclass(frozen=True)
class Record:
    """Recording rule, named level:metric:operations."""

    name: str
    expr: Expr


@dataclass(frozen=True)
class Alert:
    name: str
    expr: Expr
    after: str
    """Time for which the expression must hold before the alert fires."""
    severity: Literal["page", "ticket"]
    """`page` needs attention at once, `ticket` within the day."""
    summary: str
    runbook: str
    """Meaning and remedy, in a few sentences."""


BUDGET = Record("sidestream:budget_usd:30d", "vector(1000)")
"""Budget in US dollars for 30 days, for users to change."""

FAILED_RATIO = Record(
    "job_agent:sidestream_runs_failed:ratio_rate10m",
    share(
        runs.rate("job", "agent", window="10m", outcome="=~error|timed_out"), runs.rate("job", "agent", window="10m")
    ),
)
GIVEN_UP_RATIO = Record(
    "job_agent:sidestream_runs_given_up:ratio_rate10m",
    share(
        runs.rate("job", "agent", window="10m", outcome="=~cancelled|abandoned"),
        runs.rate("job", "agent", window="10m"),
    ),
)
RUNS = Record("job_agent:sidestream_runs:increase10m", runs.increase("job", "agent", window="10m"))
FIRST_TOKEN = Record(
    "job_model:sidestream_time_to_first_token_seconds:p95_rate10m", first.quantile(0.95, "job", "model", window="10m")
)
STALLS = Record(
    "job_model:sidestream_stream_stalls:per_request_rate10m",
    share(stalls.rate("job", "model", window="10m"), requests.rate("job", "model", window="10m")),
)
COST = {
    window: Record(f"job:sidestream_cost_usd:per_hour_rate{window}", f"{cost.rate('job', window=window)} * 3600")
    for window in ("5m", "30m", "1h", "6h")
}

FLEET = tuple(
    Record(f"job{''.join(f'_{label}' for label in labels)}:{metric.removesuffix('_total')}:rate5m", expr)
    for metric, labels, expr in (
        *(
            (name, labels, ALL[f"{name}_total"].rate("job", *labels, window="5m"))
            for name, labels in (
                ("sidestream_runs", ("agent", "outcome")),
                ("sidestream_requests", ("agent", "model", "outcome")),
                ("sidestream_tool_calls", ("agent", "tool", "outcome")),
                ("sidestream_tokens", ("agent", "model", "type")),
                ("sidestream_cost_usd", ("agent", "model")),
                ("sidestream_tag_cost_usd", ("tag", "value")),
            )
        ),
        *(
            each
            for name, labels in (
                ("sidestream_time_to_first_token_seconds", ("model",)),
                ("gen_ai_invoke_agent_duration_seconds", ("gen_ai_agent_name",)),
            )
            for each in (
                (f"{name}_bucket", labels, ALL[name].rate("job", *labels, "le", suffix="_bucket", window="5m")),
                (name, labels, ALL[name].native_rate("job", *labels, window="5m")),
            )
        ),
    )
)
"""Rates without the label `instance`, for long-term storage and long time ranges of fleets of hundreds of hosts."""

NATIVE = tuple(
    Record(f"{metric.name}_{part}", f"histogram_{part}({metric.name})")
    for metric in METRICS
    if metric.kind == "histogram"
    for part in ("count", "sum")
)
"""Counts and sums of native histograms as series of their own, with the names that the boards query.

The boards do not call `histogram_count` themselves, because VictoriaMetrics rejects each query with that function.
"""

RECORDS = (BUDGET, FAILED_RATIO, GIVEN_UP_RATIO, RUNS, FIRST_TOKEN, STALLS, *COST.values())


def _burns(times: float, short: str, long: str) -> Expr:
    """Expression for spending above `times` the budget's pace: over `long` (sustained) and `short` (still going on)."""
    pace = f"{times:g} * scalar({BUDGET.name}) / (30 * 24)"
    return f"{COST[short].name} > {pace} and {COST[long].name} > {pace}"


ALERTS = (
    Alert(
        "SidestreamRunsFail",
        f"{FAILED_RATIO.name} > 0.05 and {RUNS.name} >= 5",
        after="5m",
        severity="page",
        summary="{{ $value | humanizePercentage }} of the runs of agent {{ $labels.agent }} fail",
        runbook="More than 5 % of an agent's runs end in an error or time out. On the board Tools and agents, look "
        "for failing tools and exhausted retries of this agent; on Streaming latency, for failed requests by "
        "provider. To read the runs, open the list of runs in sidestream serve and filter by agent and outcome.",
    ),
    Alert(
        "SidestreamRunsGivenUp",
        f"{GIVEN_UP_RATIO.name} > 0.3 and {RUNS.name} >= 5",
        after="10m",
        severity="ticket",
        summary="{{ $value | humanizePercentage }} of the runs of agent {{ $labels.agent }} are given up by the caller",
        runbook="Callers cancel more than 30 % of an agent's runs, or stop reading them. Usually people stop "
        "waiting: check the time to first token and the duration of runs. Other causes are a caller's time-out that "
        "is too short, and clients that lose their connection.",
    ),
    Alert(
        "SidestreamFirstTokenSlow",
        f"{FIRST_TOKEN.name} > 10",
        after="10m",
        severity="ticket",
        summary="5 % of the streams of {{ $labels.model }} have no token for {{ $value | humanizeDuration }}",
        runbook="The 95th percentile of the time to first token exceeds 10 seconds. On the board Streaming latency, "
        "check whether one model or provider is affected, or all. If the time to first chunk is short and the time "
        "to first text is long, the model reasons: lower the reasoning effort. If input tokens have grown, shorten "
        "the prompt. Otherwise the provider is slow: check its status page, or fall back to another model.",
    ),
    Alert(
        "SidestreamStreamsStall",
        f"{STALLS.name} > 0.1",
        after="10m",
        severity="ticket",
        summary="{{ $value | humanize }} stalls per request in streams of {{ $labels.model }}",
        runbook="Streams of this model pause for longer than stall_seconds. The program's own delays are not "
        "counted. Check the gaps between chunks by model, and the network between the program and the provider, such "
        "as a proxy that buffers.",
    ),
    Alert(
        "SidestreamCostBurnsFast",
        _burns(10, "5m", "1h"),
        after="2m",
        severity="page",
        summary="{{ $labels.job }} spends {{ $value | humanize }} US dollars an hour, ten times the budget's pace",
        runbook="In one hour, more than 1.3 % of the budget for 30 days was spent, and spending continues. On the "
        "board Cost and tokens, find the agent and model. On Tools and agents, requests per run show an agent that "
        "goes in circles. Stop that agent, or give it usage limits. The budget is the rule "
        "sidestream:budget_usd:30d.",
    ),
    Alert(
        "SidestreamCostBurnsSlowly",
        _burns(2, "30m", "6h"),
        after="15m",
        severity="ticket",
        summary="{{ $labels.job }} spends {{ $value | humanize }} US dollars an hour, twice the budget's pace",
        runbook="At this pace, the budget for 30 days is spent in 15. On the board Cost and tokens, check whether "
        "traffic has grown, or the cost per run. Usual causes are fewer cache hits and longer prompts.",
    ),
    Alert(
        "SidestreamModelUnpriced",
        f"{unpriced.total('job', 'provider', 'model', window='1h')} > 0",
        after="0m",
        severity="ticket",
        summary="The price of {{ $labels.model }} ({{ $labels.provider }}) is not known: its cost is missing",
        runbook="Requests used tokens of a model without a price in the offline price list, so every sum of cost is "
        "too low. Update genai-prices, or set the price: Sidecar(prices={'model': ModelPrice(…)}).",
    ),
    Alert(
        "SidestreamEventsDropped",
        f"{events.total('job', 'exporter', 'reason', window='10m', state='=dropped')} > 0",
        after="0m",
        severity="ticket",
        summary="Exporter {{ $labels.exporter }} dropped {{ $value | humanize }} events ({{ $labels.reason }})",
        runbook="The data of this exporter is incomplete. Agents and other exporters are not affected. Reasons: "
        "overflow: the destination is unreachable, or slower than the agents; see the queue on Sidecar health. "
        "error: the exporter has a bug. refused and rejected: the destination does not accept events. "
        "shutdown: the program ended before "
        "everything was delivered; raise close_timeout. To send the missing events from the JSONL log, use "
        "sidestream replay.",
    ),
    Alert(
        "SidestreamExporterFails",
        f"{failing.now('job', 'instance', 'exporter', aggregate='max')} == 1",
        after="5m",
        severity="ticket",
        summary="Exporter {{ $labels.exporter }} of {{ $labels.instance }} has failed for five minutes",
        runbook="The destination of this exporter is unreachable. Events wait, and once the buffer is full, chunks "
        "are dropped. The program's own log has the type of the exception. Waiting events are delivered once the "
        "destination is reachable again.",
    ),
    Alert(
        "SidestreamExporterHangs",
        f"{busy.now('job', 'instance', 'exporter', aggregate='max')} > 60",
        after="1m",
        severity="ticket",
        summary="Exporter {{ $labels.exporter }} of {{ $labels.instance }} has been in one call for "
        "{{ $value | humanizeDuration }}",
        runbook="A call of this exporter does not return. Agents and other exporters are not affected, but the "
        "events of this exporter wait and will be dropped. Set a time-out for its connection.",
    ),
    Alert(
        "SidestreamRecordingErrors",
        f"{broken.total('job', window='1h')} > 0",
        after="0m",
        severity="ticket",
        summary="Sidestream itself failed {{ $value | humanize }} times while recording runs of {{ $labels.job }}",
        runbook="Parts of some runs are missing from the log. The runs themselves are not affected. This is a bug in "
        "Sidestream: please report it with the traceback in the program's own log.",
    ),
    Alert(
        "SidestreamTargetDown",
        f"up == 0 and on (job, instance) present_over_time({build.select()}[1d])",
        after="5m",
        severity="ticket",
        summary="{{ $labels.instance }} of {{ $labels.job }} has not been read for five minutes",
        runbook="Prometheus knows this target, but cannot scrape it: the program has ended or hangs, its port has "
        "changed, or the page takes longer than the scrape timeout. Status, Targets in Prometheus shows the reason. "
        "A program that was removed from the scrape configuration does not trigger this alert.",
    ),
    Alert(
        "SidestreamNotScraped",
        f"absent({build.select()})",
        after="5m",
        severity="page",
        summary="No metrics of any sidecar have been read for five minutes",
        runbook="No program with a sidecar is running, or Prometheus cannot reach it. Open /metrics of a program by "
        "hand, and see Status, Targets in Prometheus. The exporter listens on 127.0.0.1 by default; to listen on all "
        "addresses, use prometheus:0.0.0.0:9464.",
    ),
)


_HEAD = "# Generated by `python -m dashboards.build` from dashboards/rules.py."


def rules_text() -> str:
    """YAML of the rules file."""
    lines = [f"{_HEAD} Adapt the thresholds in a copy.", "groups:", *_recorded("sidestream-records", RECORDS)]
    lines += ["  - name: sidestream-alerts", "    rules:"]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {_quoted(alert.expr)}",
            f"        for: {alert.after}",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {_quoted(alert.summary)}",
            f"          runbook: {_quoted(alert.runbook)}",
        ]
    return "\n".join(lines) + "\n"


def fleet_rules_text() -> str:
    """YAML of the rules file for fleets."""
    return "\n".join([_HEAD, "groups:", *_recorded("sidestream-fleet", FLEET)]) + "\n"


def native_rules_text() -> str:
    """YAML of the rules file for native histograms."""
    return "\n".join([_HEAD, "groups:", *_recorded("sidestream-native", NATIVE)]) + "\n"


def _recorded(group: str, records: Sequence[Record]) -> list[str]:
    lines = [f"  - name: {group}", "    rules:"]
    for record in records:
        lines += [f"      - record: {record.name}", f"        expr: {_quoted(record.expr)}"]
    return lines


def alerts_page() -> str:
    """Markdown of the page `docs/alerts.md`: every alert with its runbook."""
    parts = [
        "# Alerts\n",
        "Each alert of `sidestream.rules.yaml`, with its causes and remedies. The severity `page` needs attention at "
        "once, `ticket` within the day. [Dashboards](dashboards.md#alerts) has a summary of the conditions, and the "
        "installation.\n\n"
        "This page is generated from `dashboards/rules.py` by `python -m dashboards.build`.",
    ]
    for alert in ALERTS:
        held = "fires at once" if alert.after == "0m" else f"fires if the condition holds for {alert.after}"
        parts.append(f"\n## {alert.name}\n\n*Severity {alert.severity}; {held}.*\n\n{alert.runbook}\n")
        parts.append(f"```promql\n{alert.expr}\n```")
    return "\n".join(parts) + "\n"


def _quoted(text: str) -> str:
    """`text` as a JSON string, which is also valid YAML."""
    return json.dumps(text, ensure_ascii=False)
