"""OTLP exporter: a span for each run, model request and tool call, and a log record for each score, sent to any
OpenTelemetry endpoint.

The exporter's thread builds finished spans from events (`spans`), samples them (`tail_sampler`) and sends them in
batches through OpenTelemetry's own exporter (`send_queue`, `sender`). In an outage the pipeline keeps the batch, and
offers it again.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, get_args

from sidestream.diagnostics import info_once
from sidestream.errors import ConfigurationError
from sidestream.events import AgentEnd, AgentStart, StreamEvent, StreamEventType
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.health import CheckResult
from sidestream.pipeline.yielding import GilYielder
from sidestream.recording.content import ContentPolicy
from sidestream.recording.sampling import head_sampler
from sidestream.stats import SidecarStats

from .delivery_ledger import DeliveryLedger
from .provider import provider_of
from .runs import Span
from .semantic_conventions import GEN_AI
from .send_queue import SendQueue, probe_endpoint
from .sender import load_library
from .settings import ExporterArguments, content_of, endpoint_of, sdk_disabled, shown_names
from .spans import Builder, Instrumented, RunUsage
from .tail_sampler import TailSampler

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from .metrics import Metrics
    from .scores import ScoreRecord
else:  # the registry resolves the type hints at run time, to create an exporter by name
    TracerProvider = object


class OTLPExporter(Exporter):
    """Sends spans to an OTLP endpoint: a collector, or a backend that accepts OTLP.

    Arguments left out come from the standard environment variables (`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`,
    `OTEL_EXPORTER_OTLP_ENDPOINT`, …), then from the default.

    Args:
        endpoint: `http://HOST:4318`, to which `/v1/traces` is added, or with gRPC `http://HOST:4317`.
        protocol: `http/protobuf` or `grpc`. Default: grpc for port 4317, else http/protobuf.
        headers: Mapping, or `name=value,name=value`.
        timeout: Seconds that one request may take. Default: 10.
        compression: `none` or `gzip`.
        certificate: PEM file of the certificate authorities to trust instead of the system's.
        client_certificate: PEM file of the client certificate (mutual TLS); requires `client_key`.
        client_key: PEM file of the client certificate's private key.
        content: How much of prompts, answers, arguments and results is sent: `none`, `metadata`, `truncated(N)` or
            `full`. Default: `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`, else none.
        interval: Seconds to gather events before their spans are sent.
        instrumented: Spans of a run that pydantic-ai's own Instrumentation traces too: `run` (the `invoke_agent` span
            only), `all` or `none`.
        keep_failed: Whether unsampled traces are sent if a run in them did not complete.
        keep_slower: Seconds; unsampled traces are sent if a run in them took longer. None for no limit.
        keep_costlier: US dollars; unsampled traces are sent if a run in them cost more. None for no limit.
        run_usage: Tokens on the span of a run: `own` (of its own requests), for back ends that sum over spans; `total`
            (with sub-agents), for back ends that read the root span (MLflow); or `none`.
        metrics: Whether the metrics of `docs/metrics.md` are sent to the same endpoint. Leave out for a replay, which
            would count runs again.
        metrics_interval: Seconds between two metric exports. Default: `OTEL_METRIC_EXPORT_INTERVAL` (in milliseconds),
            else 60.
        scores: Whether scores of runs are sent as log records, to the endpoint's `/v1/logs`. False for a back end that
            takes traces alone.
        record: File that lists the delivered spans and scores, for `sidestream replay --only-missing`.
        tracer_provider: SDK `TracerProvider` whose span processors get the spans, under its resource, instead of an
            endpoint.
        use_global: Whether OpenTelemetry's global provider is used as `tracer_provider`.

    Raises:
        ConfigurationError: An argument or an environment variable is invalid.
    """

    name = "otlp"
    spans = True
    threaded = True

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        protocol: str | None = None,
        headers: Mapping[str, str] | str | None = None,
        timeout: float | None = None,
        compression: str | None = None,
        certificate: str | None = None,
        client_certificate: str | None = None,
        client_key: str | None = None,
        content: str | ContentPolicy | None = None,
        interval: float = 1.0,
        instrumented: Instrumented = "run",
        keep_failed: bool = True,
        keep_slower: float | None = None,
        keep_costlier: float | None = None,
        run_usage: RunUsage = "own",
        metrics: bool = False,
        metrics_interval: float | None = None,
        scores: bool = True,
        record: str | None = None,
        tracer_provider: TracerProvider | None = None,
        use_global: bool = False,
    ) -> None:
        for option, value in (
            ("interval", interval),
            ("keep_slower", keep_slower),
            ("keep_costlier", keep_costlier),
        ):
            if value is not None and not (type(value) in (int, float) and 0 <= value < math.inf):
                raise ConfigurationError(f"otlp: {option}={value!r}: must be a number, 0 or more")
        if instrumented not in get_args(Instrumented):
            raise ConfigurationError(f"otlp: instrumented={instrumented!r}: choose run, all or none")
        if run_usage not in get_args(RunUsage):
            raise ConfigurationError(f"otlp: run_usage={run_usage!r}: choose own, total or none")
        self.content, placement = content_of(content)
        self.interval = interval
        # Metrics need the times of chunks, though not their text.
        self.skip = frozenset({"llm_chunk"}) if self.content.mode == "none" and not metrics else frozenset()
        self._given = ExporterArguments(
            endpoint=endpoint,
            protocol=protocol,
            headers=headers,
            timeout=timeout,
            compression=compression,
            certificate=certificate,
            client_certificate=client_certificate,
            client_key=client_key,
        )
        self.endpoint = endpoint_of("traces", self._given)
        self._scores_endpoint = endpoint_of("logs", self._given) if scores else None
        self._provider = provider_of(tracer_provider, use_global, endpoint)
        self._instrumented: Instrumented = instrumented
        sampler = head_sampler()
        self._new_builder = partial(
            Builder,
            GEN_AI,
            sampler,
            instrumented=instrumented,
            content=self.content,
            placement=placement,
            run_usage=run_usage,
        )
        self._new_tail_sampler = partial(TailSampler, keep_failed, keep_slower, keep_costlier)
        self._record = None if record is None else DeliveryLedger(record)
        from . import compat, readable
        from .scores import readable_records, score_records

        self._readable, self._compat = readable, compat
        self._score_records, self._readable_records = score_records, readable_records
        if self._provider is None:
            load_library(self.endpoint)
        self._resource = readable.make_resource() if self._provider is None else self._provider.resource
        self._scope = readable.scope()
        self._get_stats: Callable[[], SidecarStats] | None = None
        self._metrics: Metrics | None = None
        self._new_metrics = self._metrics_to(metrics, metrics_interval)
        if sdk_disabled():
            self.spans = False
            self.skip = frozenset(StreamEventType)
            self._new_metrics = None
            info_once("OTLP export is off, since OTEL_SDK_DISABLED is true")
        self._reset()

    def _metrics_to(self, wanted: bool, interval: float | None) -> Callable[[], Metrics] | None:
        if not wanted:
            return None
        if self._provider is not None:
            raise ConfigurationError("otlp: metrics go to an endpoint, and not to a tracer provider: give one of them")
        from .metrics import Metrics, interval_of

        endpoint, seconds = endpoint_of("metrics", self._given), interval_of(interval)
        return lambda: Metrics(
            endpoint, self._resource, seconds, lambda: self._get_stats() if self._get_stats else None
        )

    def _reset(self) -> None:
        self._metrics = self._new_metrics() if self._new_metrics else None
        self._builder, self._tail_sampler = self._new_builder(), self._new_tail_sampler()
        self._batch: list[tuple[str, int]] | None = None
        self._yielder = GilYielder()
        to_batch = partial(
            self._readable.SpanBatch,
            resource=self._resource,
            scope=self._scope,
            maybe_yield=self._yielder.maybe_yield,
        )
        self._send_queue = SendQueue(self.endpoint, self._record, to_batch)
        self._scores = 0  # scores in the current batch
        self._score_queue: SendQueue[ScoreRecord] | None = None
        if self._scores_endpoint is not None and self._provider is None:
            records = partial(self._readable_records, resource=self._resource, scope=self._scope)
            self._score_queue = SendQueue(self._scores_endpoint, self._record, records, "logs")

    @property
    def spans_sent(self) -> int:
        """Spans that the endpoint, or the tracer provider, accepted."""
        return self._send_queue.sent

    @property
    def scores_sent(self) -> int:
        """Scores that the endpoint accepted."""
        return self._score_queue.sent if self._score_queue is not None else 0

    @property
    def spans_lost(self) -> int:
        """Spans lost: rejected in a partial success, or refused with their whole request."""
        return self._send_queue.lost

    @property
    def spans_shortened(self) -> int:
        """Spans that were too large for the endpoint, sent without long texts. An attribute counts the removed text."""
        return self._send_queue.shortened

    @property
    def spans_held(self) -> int:
        """Spans of unsampled traces, held until the root run ends."""
        return self._tail_sampler.held

    @property
    def spans_sampled_out(self) -> int:
        """Spans discarded by sampling. Their events count as exported, not as dropped."""
        return self._tail_sampler.sampled_out

    # --- the exporter's contract ---

    def bind(self, get_stats: Callable[[], SidecarStats]) -> None:
        self._get_stats = get_stats

    def export(self, events: Sequence[StreamEvent]) -> Mapping[str, int] | None:
        """Send the spans that end within `events`, and the scores among them; open spans are kept.

        Raises:
            ExporterUnavailable: The endpoint cannot be reached, or requested a delay (`Retry-After`).
        """
        batch = [(event.run_id, event.seq) for event in events]
        if batch != self._batch:  # equal for a batch that is offered again, whose spans are built and queued already
            self._batch = batch
            self._measure(events)
            spans = self._spans_of(events)
            if self._provider is not None:
                self._hand_over(spans)
            else:
                self._send_queue.put(self._readable.requests_of(spans))
            self._put_scores(events)
        self._send_queue.send()
        if self._score_queue is not None:
            self._score_queue.send()
        self._batch = None
        return self._losses(len(events)) or None

    def flush(self) -> None:
        if self._metrics is not None:
            self._metrics.send()
        if self._provider is not None:
            self._provider.force_flush()

    def close(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
        self._send_queue.close()
        if self._score_queue is not None:
            self._score_queue.close()

    def after_fork(self) -> None:
        if self._record is not None:
            self._record.close()
        self._resource = self._readable.of_this_process(self._resource) if self._provider is None else self._resource
        self._reset()  # the parent's connection is left open: closing it would write to the shared socket (TLS)

    def check(self) -> list[CheckResult]:
        """Settings in effect, and the endpoint's answer to an empty request."""
        resource = self._resource.attributes
        headers = ", ".join(shown_names(self.endpoint.headers)) or "none"
        return [
            CheckResult(True, "service", str(resource.get("service.name"))),
            CheckResult(True, "protocol", f"{self.endpoint.protocol}, compression {self.endpoint.compression}"),
            CheckResult(True, "headers", f"{headers} (values not shown)"),
            CheckResult(True, "sampler", os.environ.get("OTEL_TRACES_SAMPLER", "").strip() or "parentbased_always_on"),
            *(CheckResult(False, "library", lost) for lost in self._compat.probe()),
            *self._probe(),
        ]

    def _probe(self) -> list[CheckResult]:
        if sdk_disabled():
            return [CheckResult(True, "endpoint", "nothing is sent, since OTEL_SDK_DISABLED is true")]
        if self._provider is not None:
            return [CheckResult(True, "endpoint", "spans go to the application's own tracer provider")]
        found = [probe_endpoint(self.endpoint, "traces")]
        return found if self._metrics is None else [*found, probe_endpoint(self._metrics.endpoint, "metrics")]

    # --- from events to requests ---

    def _measure(self, events: Sequence[StreamEvent]) -> None:
        if self._metrics is not None:
            self._metrics.start()
            for event in events:
                self._metrics.aggregator.add(event)
                self._yielder.maybe_yield()

    def _spans_of(self, events: Sequence[StreamEvent]) -> list[Span]:
        spans: list[Span] = []
        for event in events:
            run, span = self._builder.take(event)
            if run is not None:
                spans += self._tail_sampler.take(run, span, event.data if type(event.data) is AgentEnd else None)
                if run.instrumented and type(event.data) is AgentStart:
                    self._log_instrumented()
            self._yielder.maybe_yield()
        return spans

    def _put_scores(self, events: Sequence[StreamEvent]) -> None:
        if self._score_queue is not None:
            records = list(self._score_records(GEN_AI, events, self._builder.trace_of))
            self._scores = len(records)
            self._score_queue.put(self._readable.requests_of(records))

    def _losses(self, events: int) -> Counter[str]:
        """Dropped events of the batch, by reason: one per lost score, else one per lost span."""
        losses = Counter(self._send_queue.losses(events - self._scores))
        if self._score_queue is not None:
            losses.update(self._score_queue.losses(self._scores))
        return losses

    def _hand_over(self, spans: Sequence[Span]) -> None:
        for span in spans:
            self._compat.hand_over(self._provider, self._readable.readable(span, self._resource, self._scope))
            self._yielder.maybe_yield()
        self._send_queue.accepted(spans)

    # --- the record of deliveries ---

    def delivered(self) -> dict[str, set[int]] | None:
        """Sequence numbers of the delivered spans' first events, by run id. None without a `record`."""
        return None if self._record is None else self._record.read()

    def _log_instrumented(self) -> None:
        kept = {"run": "its own invoke_agent span alone", "all": "all spans, beside theirs", "none": "nothing"}
        info_once(
            "agent is traced by pydantic-ai's Instrumentation too",
            exported=kept[self._instrumented],
            choose="instrumented=run, all or none",
        )
