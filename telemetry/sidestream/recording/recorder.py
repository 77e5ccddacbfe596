"""The port through which sources of runs reach the sidecar that they report to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .context import Link
from .pricing import Pricing
from .run_recorder import RunRecorder


class Recorder(Protocol):
    """What a source of runs needs of the sidecar that it reports to."""

    pricing: Pricing

    @property
    def active(self) -> bool:
        """Whether anyone listens: False once the sidecar is closed."""
        ...

    @property
    def wants_content(self) -> bool:
        """Whether any exporter may see content, so that it has to be taken down."""
        ...

    def open_run(self, run_id: str, agent_name: str | None, parent: Link | None) -> RunRecorder: ...
    def close_run(self, run: RunRecorder) -> None: ...
    def trouble(self, error: Exception) -> None:
        """Count a failure of our own."""
        ...


def safely(recorder: Recorder, call: Callable[..., Any], *args: Any) -> Any:
    """`call(*args)`, or None where that raises: whatever of ours fails inside a hook is counted, and no more."""
    try:
        return call(*args)
    except Exception as error:
        recorder.trouble(error)
        return None
