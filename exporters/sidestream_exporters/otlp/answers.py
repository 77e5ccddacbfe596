"""Responses of an OTLP endpoint: message types, and the items that a partial success rejected."""

from __future__ import annotations

from typing import Any

from .settings import Signal


def answer_type(signal: Signal) -> Any:
    """Protobuf class of the endpoint's response to `signal`."""
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        return ExportTraceServiceResponse
    if signal == "logs":
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

        return ExportLogsServiceResponse
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

    return ExportMetricsServiceResponse


def rejected_items(answer: Any) -> int:
    """Spans, data points or log records that a response reports as rejected."""
    partial = answer.partial_success
    fields = ("rejected_spans", "rejected_data_points", "rejected_log_records")
    return max(0, *(getattr(partial, field, 0) for field in fields))
