"""ClickHouse exporter."""

from .exporter import ClickHouseExporter

__all__ = ["ClickHouseExporter"]
