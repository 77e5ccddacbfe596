"""Exporters that ship with Sidestream. Each module is imported on first access to its class."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clickhouse import ClickHouseExporter
    from .collect import CollectExporter
    from .console import ConsoleExporter
    from .jsonl import JSONLExporter
    from .otlp import OTLPExporter
    from .prometheus import PrometheusExporter

__all__ = [
    "ClickHouseExporter",
    "CollectExporter",
    "ConsoleExporter",
    "JSONLExporter",
    "OTLPExporter",
    "PrometheusExporter",
]

_HOMES = {
    "ClickHouseExporter": "clickhouse",
    "CollectExporter": "collect",
    "ConsoleExporter": "console",
    "JSONLExporter": "jsonl",
    "OTLPExporter": "otlp",
    "PrometheusExporter": "prometheus",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
