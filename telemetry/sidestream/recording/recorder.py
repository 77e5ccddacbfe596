"""The port between the sources of runs and the sidecar that records them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .context import Link
from .pricing import Pricing
from .run import Run


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

    def open_run(self, run_id: str, agent_name: str | None, parent: Link | None) -> Run: ...
    def close_run(self, run: Run) -> None: ...
    def unpriced(self, model: str | None) -> None: ...
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
