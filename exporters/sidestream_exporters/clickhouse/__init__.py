"""Events into ClickHouse."""

from .exporter import ClickHouseExporter

__all__ = ["ClickHouseExporter"]
