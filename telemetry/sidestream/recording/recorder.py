"""Interface between the sources of runs and the sidecar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .context import Link
from .pricing import Pricing
from .run_recorder import RunRecorder


class Recorder(Protocol):
    """Interface of the sidecar for a source of runs."""

    pricing: Pricing

    @property
    def active(self) -> bool:
        """Whether recording is on; False once the sidecar is closed."""
        ...

    @property
    def wants_content(self) -> bool:
        """Whether any exporter's policy allows content, so that content has to be recorded."""
        ...

    def open_run(self, run_id: str, agent_name: str | None, parent: Link | None) -> RunRecorder: ...
    def close_run(self, run: RunRecorder) -> None: ...
    def trouble(self, error: Exception) -> None:
        """Count an internal failure."""
        ...


def safely(recorder: Recorder, call: Callable[..., Any], *args: Any) -> Any:
    """Return `call(*args)`; count an exception and return None, so that no hook fails because of Sidestream."""
    try:
        return call(*args)
    except Exception as error:
        recorder.trouble(error)
        return None
