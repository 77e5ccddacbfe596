"""`TraceContext`: the streaming guide's name for a sidecar that travels in an agent's dependencies."""

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
        exporters: Exporters, or their names. None: the environment's.
        settings: As for `Sidecar`.

    Raises:
        ConfigurationError: a setting cannot work.
    """

    def __init__(self, exporters: Iterable[Exporter | str] = (), **settings: Any) -> None:
        super().__init__(*exporters, **settings)


def sidecar_in(deps: Any) -> Sidecar | None:
    """The sidecar in `deps.trace_context`, if there is one."""
    found = getattr(deps, "trace_context", None)
    return found if isinstance(found, Sidecar) else None
