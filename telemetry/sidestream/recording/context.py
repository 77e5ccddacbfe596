"""Context variable for the current run: the run and the tool call to which the running code belongs."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from .run_recorder import RunRecorder


class Link(msgspec.Struct, frozen=True):
    """Position of the current code: an observed run, and possibly a tool call within the run."""

    run: RunRecorder
    tool_call_id: str | None = None
    outer: Link | None = None
    """Link of the enclosing code. With two sidecars on one agent, the other sidecar's link to the same run."""
    via: Literal["tool", "output", "stream"] = "tool"
    """Kind of the position: a tool call, an output function or validator, or a tapped stream."""
    span: int = 0
    """Number of the span within the run: that of the tool call, or 0 for the run itself."""
    around: SpanContext | None = None
    """Span current at the start; the parent span inside, since Sidestream's own span may not be in the context."""
    requests: Callable[[], RunRecorder] | None = None
    """Returns the run that records model calls made here, if the code is an agent's own loop. None: each model call
    is recorded as a run of its own, as in the code of a tool."""
    recorded_modules: tuple[str, ...] = ()
    """Prefixes of module names whose model calls the source of the run already records from an SDK's stream. The
    empty prefix matches all modules."""


current: ContextVar[Link | None] = ContextVar("sidestream_current_run", default=None)
"""Restored with `set(previous)`, never with `reset(token)`: `reset` raises in another context, such as that of the"""

recorded_outside: ContextVar[bool] = ContextVar("sidestream_recorded_outside", default=False)
"""Whether an outer recorder already records the model calls made here: a tapped stream's run, or another SDK's call."""


def enclosing(owner: object) -> Link | None:
    """Innermost enclosing run in progress that `owner` observes; None outside of a run."""
    link = current.get()
    while link is not None and link.run.owner is not owner:
        link = link.outer
    return None if link is None or link.run.ended else link
