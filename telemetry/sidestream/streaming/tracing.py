"""`TraceContext`: the streaming guide's name for a sidecar in an agent's dependencies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sidestream.pipeline.exporter import Exporter
from sidestream.sidecar import Sidecar


class TraceContext(Sidecar):
    """Sidecar that the streaming functions find in `deps.trace_context`.

        deps = Deps(trace_context=TraceContext(exporters=[ConsoleExporter(verbose=True)]))
        async for event in run_stream(agent, "Task", deps): ...

    Args:
        exporters: Exporters, or their names. Empty: those of `SIDESTREAM_EXPORTERS`.
        settings: Settings of `Sidecar`.

    Raises:
        ConfigurationError: A setting is invalid.
    """

    def __init__(self, exporters: Iterable[Exporter | str] = (), **settings: Any) -> None:
        super().__init__(*exporters, **settings)


def sidecar_in(deps: Any) -> Sidecar | None:
    """Sidecar in `deps.trace_context`; None without one."""
    found = getattr(deps, "trace_context", None)
    return found if isinstance(found, Sidecar) else None
