"""Prometheus exporter: counters and histograms of runs on a scrape endpoint."""

from .exporter import PrometheusExporter

__all__ = ["PrometheusExporter"]
