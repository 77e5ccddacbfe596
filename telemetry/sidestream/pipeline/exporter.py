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

    **Threads.** Every method but `__init__` and `bind` is called from a background thread, one call at a time, and not
    always from the same thread. Nothing here is ever called on the thread of an agent, except at the interpreter's end
    where no thread can be had. (`after_fork` is called on the only thread of the child.)

    **Blocking.** All exporters of a sidecar share one thread, so that the agents lose little time to it. To be a good
    neighbour, return within milliseconds, and hold the GIL for no more than about 100 µs at a time. An exporter whose
    calls wait for a network sets `threaded = True` and has a thread of its own, which is woken for each batch. A call
    that hangs for a tenth of a second while others wait keeps the thread that it is on, and another serves the rest. In
    any case only this exporter's queue fills: what does not fit is dropped and counted, `llm_chunk` events first.

    **Closing.** On close the sidecar waits until its deadline and no longer; beside a `durable` exporter that has
    written everything, it waits for one call no longer than a second (a fifth of a second where the last call failed).
    A call that has not come back by then is left behind, and its events are counted as dropped.

    **Errors.** Raise `ExporterUnavailable` when the sink is away and nothing of the batch was delivered: the batch is
    kept and offered again, with growing delays. Any other exception loses the batch, which is counted as dropped for
    the reason `error`; after several in a row the exporter is left alone for a while. Nothing raised ever reaches an
    agent. With `SIDESTREAM_DEBUG=1` the traceback is printed.
    """

    name: ClassVar[str]
    """How settings, statistics and metrics call it."""

    content: ContentPolicy = FULL
    """How much of what people and models wrote it may see; events are stripped before they get here."""

    skip: frozenset[str] = frozenset()
    """Event types it has no use for. They are not offered, and so not counted."""

    interval: float = 0.1
    """Seconds to gather events before a batch is handed over. The end of a run is handed over at once."""

    durable: bool = False
    """Whether what it took is there for a later replay. A program that ends does not wait for another exporter's outage
    to end, once every durable exporter has written all it was given."""

    eager: bool = False
    """Whether it starts with the sidecar and not with the first event. Pull-based exporters, like an endpoint, do."""

    threaded: bool = False
    """Whether its calls may wait for a network. Then they are made from a thread of its own, and hold up no other."""

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
