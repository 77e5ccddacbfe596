"""The current run: what the code that is running belongs to, by a context variable."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from .run_recorder import RunRecorder


class Link(msgspec.Struct, frozen=True):
    """What the current code runs inside: an observed run, and the tool call within it, if any."""

    run: RunRecorder
    tool_call_id: str | None = None
    outer: Link | None = None
    """What this is inside of; with two sidecars on one agent, the other's link to the same run."""
    via: Literal["tool", "output", "stream"] = "tool"
    """What of the run this is: a tool call, an output function or validator, or the stream that was tapped."""
    span: int = 0
    """Number of its span within the run: that of the tool call, or else 0, the run's own."""
    around: SpanContext | None = None
    """The span that was current where it began. Within, it stands for our own, which need not be in the context."""
    requests: Callable[[], RunRecorder] | None = None
    """Gives the run whose requests the calls of models made here are: the code is an agent's own loop. None: such a
    call is a run of its own, as that of a tool's code is."""
    tells: tuple[str, ...] = ()
    """Beginnings of the names of modules whose calls of models the source of the run tells itself, since it reads them
    from the stream of an SDK; an empty one is those of all modules."""


current: ContextVar[Link | None] = ContextVar("sidestream_current_run", default=None)
"""Restored with `set(previous)`, never `reset(token)`: a run that the garbage collector tears down ends in another
context, where `reset` raises."""

told_outside: ContextVar[bool] = ContextVar("sidestream_told_outside", default=False)
"""Whether somebody further out tells the calls of models made here: a tapped stream's run, or another SDK's call."""


def enclosing(owner: object) -> Link | None:
    """The innermost run in progress that the current code is inside of, among those that `owner` observes."""
    link = current.get()
    while link is not None and link.run.owner is not owner:
        link = link.outer
    return None if link is None or link.run.ended else link
