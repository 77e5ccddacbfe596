"""OTLP exporter: runs as OpenTelemetry spans and metrics."""

from .exporter import OTLPExporter

__all__ = ["OTLPExporter"]
