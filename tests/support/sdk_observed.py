"""SDK calls in a process observed by `install()`, compared with the same calls unobserved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

import sidestream
from sidestream import InMemoryExporter, Sidecar
from sidestream.events import StreamEvent
from sidestream.testing.adapters import outline
from tests.support.loopback import until
from tests.support.provider_server import Delivery, Exchange, ReplayServer, replay
from tests.support.sdk_calls import View, Way

JSON = (("content-type", "application/json"),)
EVENTS = (("content-type", "text/event-stream"),)


@dataclass
class Installed:
    """Observed process, and its log by run."""

    sidecar: Sidecar
    memory: InMemoryExporter = field(default_factory=InMemoryExporter)

    def runs(self) -> list[list[StreamEvent]]:
        """Events of each run, in order of the runs' start. Asserts that all runs have ended."""
        assert self.sidecar.flush() == {}
        stats = self.sidecar.stats()
        assert (stats.recording_errors, stats.runs_in_progress) == (0, 0)
        found: dict[str, list[StreamEvent]] = {}
        for event in self.memory.events:
            found.setdefault(event.run_id, []).append(event)
        return list(found.values())

    def outlines(self) -> list[list[tuple[Any, ...]]]:
        """Outline of each run."""
        return [outline(events) for events in self.runs()]


@contextmanager
def answering(body: bytes, *, status: int = 200, json: bool = False, delivery: Delivery | None = None) -> Iterator[str]:
    exchange = Exchange("POST", "http://x/", None, status, JSON if json else EVENTS, body)
    with replay([exchange], delivery or Delivery()) as server:
        yield server.url


def cancelled(way: Way, body: bytes, *, by_limit: bool = False) -> Installed:
    """Log of a call that is cancelled, or exceeds a time limit, during the wait for its answer."""
    exchange = Exchange("POST", "http://x/", None, 200, EVENTS if way.streaming else JSON, body)
    memory = InMemoryExporter()
    installed = Installed(sidestream.install(memory), memory)
    view = View()

    async def ask(url: str, limits: list[asyncio.Timeout]) -> None:
        async with asyncio.timeout(None) as limit:
            limits.append(limit)
            await way.ask(url, view, None)

    async def main(server: ReplayServer) -> None:
        limits: list[asyncio.Timeout] = []
        asking = asyncio.ensure_future(ask(server.url, limits))
        waits = server.holding.is_set if not way.streaming else lambda: server.holding.is_set() and len(view.items) > 1
        await asyncio.to_thread(until, waits)
        if by_limit:
            limits[0].reschedule(0)
        else:
            asking.cancel()
        with pytest.raises(TimeoutError if by_limit else asyncio.CancelledError):
            await asking

    try:
        with replay([exchange], Delivery(hold_after=2 if way.streaming else 0)) as server:
            asyncio.run(main(server))
    finally:
        installed.runs()
        sidestream.uninstall()
    return installed


def both(
    way: Way,
    body: bytes,
    leave_after: int | None = None,
    before_end: Callable[[Sidecar], object] = lambda sidecar: None,
    **how: Any,
) -> tuple[View, View, Installed]:
    """Views of an unobserved and an observed caller. `before_end` is called while the process is still observed."""
    with answering(body, **how) as url:
        bare = way.seen(url, leave_after)
    memory = InMemoryExporter()
    installed = Installed(sidestream.install(memory), memory)
    try:
        with answering(body, **how) as url:
            observed = way.seen(url, leave_after)
        before_end(installed.sidecar)
    finally:
        installed.runs()
        sidestream.uninstall()
    return bare, observed, installed
