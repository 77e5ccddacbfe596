"""The contract of an exporter: what a third party implements.

Subclass `Exporter`, implement `export`, and name the class under the entry-point group `sidestream.exporters`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol

from sidestream.events import StreamEvent
from sidestream.recording.content import FULL, ContentPolicy
from sidestream.stats import SidecarStats


class Exporter(Protocol):
    """Takes events to one sink.

    **Threads.** Each exporter has one worker thread of its own, and every method but `__init__` and `bind` is called
    from it, one call at a time. Nothing here is ever called on the thread of an agent. (`after_fork` is called on the
    only thread of the child.)

    **Blocking.** A method may block: only this exporter's buffer fills meanwhile. What does not fit is dropped and
    counted, `llm_chunk` events first. On close the hub waits until its deadline and no longer; beside a `durable`
    exporter that has written everything, it waits for one call no longer than a second (a fifth of a second where the
    last call failed). A call that has not come back by then is left behind, and its events are counted as dropped. To
    be a good neighbour, hold the GIL for no more than about 100 µs at a time.

    **Errors.** Raise `ExporterUnavailable` when the sink is away and nothing of the batch was delivered: the batch is
    kept and offered again, with growing delays. Any other exception loses the batch, which is counted as dropped for
    the reason `error`; after several in a row the hub pauses the exporter. Nothing raised ever reaches an agent.
    """

    name: ClassVar[str]
    """How settings, statistics and metrics call it."""

    content: ContentPolicy = FULL
    """How much of what people and models wrote it may see; events are stripped before they get here."""

    skip: frozenset[str] = frozenset()
    """Event types it has no use for. They are not offered, and so not counted."""

    interval: float = 0.1
    """Seconds to gather events before a batch is handed over."""

    durable: bool = False
    """Whether what it took is there for a later replay. A program that ends does not wait for another exporter's outage
    to end, once every durable exporter has written all it was given."""

    eager: bool = False
    """Whether it starts with the sidecar and not with the first event: for those that are asked, like an endpoint."""

    spans: bool = False
    """Whether it exports spans. Then the ids of runs and tools are put into the OpenTelemetry context, so that spans
    made inside them by others find their parents; otherwise those would hang from a span that nobody ever sends."""

    def bind(self, get_stats: Callable[[], SidecarStats]) -> None:
        """Called when a sidecar takes the exporter, on the thread that makes the sidecar, before any other call.

        `get_stats` returns the sidecar's statistics, from any thread: for exporters that publish them.
        """
        return

    def start(self) -> None:
        """Called once, before the first `export`. May raise `ExporterUnavailable`, and is then called again."""
        return

    @abstractmethod
    def export(self, events: Sequence[StreamEvent]) -> Mapping[str, int] | None:
        """Deliver `events`, in order: all of them, or return how many were not, by reason (`{"rejected": 2}`)."""

    def flush(self) -> None:
        """Push out whatever `export` left in buffers of its own."""
        return

    def close(self) -> None:
        """Release everything. No call follows."""
        return

    def after_fork(self) -> None:
        """Called in a forked child before anything else: let go of what belongs to the parent, without a flush."""
        return
