"""Sidestream: the observability sidecar for agent streams.

from sidestream import Sidecar

sidecar = Sidecar("console", "jsonl:runs/")
agent = sidecar.observe(agent)  # the same agent, unchanged
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    ConfigurationError,
    ExporterUnavailable,
    InvalidEventError,
    SidestreamError,
    UnknownExporterError,
    UnreadableLogError,
)
from .events import StreamEvent, StreamEventType, decode_line, encode_line
from .events.factories import (
    agent_end_event,
    agent_start_event,
    error_event,
    llm_chunk_event,
    progress_event,
    tool_end_event,
    tool_start_event,
)
from .install import install, uninstall
from .pipeline.exporter import Exporter
from .pipeline.memory import InMemoryExporter
from .pipeline.registry import available_exporters
from .recording.content import ContentPolicy
from .recording.correlation import CurrentRun, current_run
from .sidecar import Sidecar
from .stats import CollectorStats, ExporterStats, SidecarStats
from .streaming.api import collect_stream_result, run_stream, run_stream_with_tools, stream_text, stream_tool_calls
from .streaming.tracing import TraceContext

if TYPE_CHECKING:
    from sidestream_exporters.console import ConsoleExporter

__all__ = [
    "CollectorStats",
    "ConfigurationError",
    "ConsoleExporter",
    "ContentPolicy",
    "CurrentRun",
    "Exporter",
    "ExporterStats",
    "ExporterUnavailable",
    "InMemoryExporter",
    "InvalidEventError",
    "Sidecar",
    "SidecarStats",
    "SidestreamError",
    "StreamEvent",
    "StreamEventType",
    "TraceContext",
    "UnknownExporterError",
    "UnreadableLogError",
    "agent_end_event",
    "agent_start_event",
    "available_exporters",
    "collect_stream_result",
    "current_run",
    "decode_line",
    "encode_line",
    "error_event",
    "install",
    "llm_chunk_event",
    "progress_event",
    "run_stream",
    "run_stream_with_tools",
    "stream_text",
    "stream_tool_calls",
    "tool_end_event",
    "tool_start_event",
    "uninstall",
]


_MODULES = ("adapters", "log", "logs", "testing")
"""Public modules that are imported on first use."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name == "ConsoleExporter":  # imported on first use, because exporters import heavy libraries
        from sidestream_exporters.console import ConsoleExporter

        return ConsoleExporter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
