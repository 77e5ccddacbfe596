"""The Prometheus exporter: runs as counters and histograms on a scrape endpoint."""

from .exporter import PrometheusExporter

__all__ = ["PrometheusExporter"]
