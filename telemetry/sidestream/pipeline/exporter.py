"""Contract of an exporter, for built-in and third-party implementations.

Subclass `Exporter`, implement `export`, and register the class in the entry-point group `sidestream.exporters`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol

from sidestream.events import StreamEvent
from sidestream.recording.content import FULL, ContentPolicy
from sidestream.stats import SidecarStats


class Exporter(Protocol):
    """Delivers events to one sink.

    **Threads.** All methods except `__init__` and `bind` are called from a background thread, one call at a time, but
    not always from the same thread. No call happens on the thread of an agent, except at interpreter exit if no thread
    can be started. (`after_fork` is called on the only thread of the child.)

    **Blocking.** All exporters of a sidecar share one thread, to limit the overhead for the agents. Calls should return
    within milliseconds, and hold the GIL for no more than about 100 µs at a time. An exporter that waits for a network
    sets `threaded = True`, and gets a thread of its own, woken for each batch. If a call blocks for 0.1 s while other
    exporters wait, it keeps its thread, and another thread serves the rest. In any case only the queue of the blocked
    exporter fills: excess events are dropped and counted, `llm_chunk` events first.

    **Closing.** A close waits until its deadline at most. If a `durable` exporter has written everything, the close
    waits for a call of any other exporter no longer than one second (0.2 s if its last call failed). A call that has
    not returned by then is abandoned, and its events are counted as dropped.

    **Errors.** Raise `ExporterUnavailable` if the sink is unreachable and nothing of the batch was delivered: the batch
    is kept and retried with growing delays. After any other exception the batch is lost, and counted as dropped for the
    reason `error`; after several consecutive failures the exporter is paused. No exception ever reaches an agent. With
    `SIDESTREAM_DEBUG=1` tracebacks are printed.
    """

    name: ClassVar[str]
    """Name of the exporter in settings, statistics and metrics."""

    content: ContentPolicy = FULL
    """Policy for content of people and models; applied before events reach the exporter."""

    skip: frozenset[str] = frozenset()
    """Event types that the exporter does not use. Never offered, and therefore not counted."""

    interval: float = 0.1
    """Seconds to collect events before a batch is delivered. The end of a run is delivered at once."""

    batch: int = 256
    """Maximum number of events per call when a log is forwarded (`replay`, `collect`). Larger for a sink whose requests
    are expensive, however few events they carry."""

    durable: bool = False
    """Whether exported events can be replayed later. Once every durable exporter has written all its events, a
    closing program does not wait for the outage of another exporter."""

    eager: bool = False
    """Whether the exporter starts with the sidecar, before the first event, as a pull-based endpoint must."""

    threaded: bool = False
    """Whether calls may wait for a network. If True, the exporter gets a thread of its own."""

    spans: bool = False
    """Whether the exporter sends spans. Only then are the ids of runs and tools put into the OpenTelemetry context,
    as parents of other libraries' spans. Otherwise those spans would refer to a parent that is never sent."""

    def bind(self, get_stats: Callable[[], SidecarStats]) -> None:
        """Called once when a sidecar takes the exporter, on the thread that creates the sidecar, before any other call.

        `get_stats` returns the sidecar's statistics, from any thread, for exporters that publish them.
        """
        return

    def start(self) -> None:
        """Called before the first `export`. May raise `ExporterUnavailable`, and is called again in that case."""
        return

    @abstractmethod
    def export(self, events: Sequence[StreamEvent]) -> Mapping[str, int] | None:
        """Deliver `events` in order. Returns the number of undelivered events by reason (`{"rejected": 2}`), if any."""

    def flush(self) -> None:
        """Flush internal buffers of `export`."""
        return

    def close(self) -> None:
        """Release all resources. No call follows."""
        return

    def after_fork(self) -> None:
        """Release the parent's resources in a forked child, without a flush. Called before anything else."""
        return
