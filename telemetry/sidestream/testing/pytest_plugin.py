"""A pytest fixture: `sidestream_capture`, a sidecar whose events a test can look at.

def test_my_agent(sidestream_capture):
    agent = sidestream_capture.observe(build_agent())
    agent.run_sync("…")
    assert sidestream_capture.of("agent_end")[0].data.outcome == "completed"
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:  # every pytest of the environment loads this module: it must cost nothing
    from sidestream.events import StreamEvent
    from sidestream.sidecar import Sidecar

AgentT = TypeVar("AgentT")


class Capture:
    """A sidecar with an in-memory exporter; reading delivers first, so nothing is still under way."""

    def __init__(self) -> None:
        from sidestream.pipeline.memory import InMemoryExporter
        from sidestream.sidecar import Sidecar

        self._memory = InMemoryExporter()
        self.sidecar: Sidecar = Sidecar(self._memory)

    def observe(self, agent: AgentT) -> AgentT:
        """Observe `agent`; returns the same agent."""
        return self.sidecar.observe(agent)

    @property
    def events(self) -> list[StreamEvent]:
        """All events so far."""
        undelivered = self.sidecar.flush()
        assert not undelivered, f"events not delivered: {undelivered}"
        return self._memory.events

    def of(self, *event_types: str) -> list[StreamEvent]:
        """The events of the given types."""
        return [event for event in self.events if event.event_type in event_types]

    def runs(self) -> dict[str, list[StreamEvent]]:
        """The events by run id, runs in the order of their first event."""
        _ = self.events
        return self._memory.runs()

    def clear(self) -> None:
        """Forget everything so far."""
        _ = self.events
        self._memory.clear()


@pytest.fixture
def sidestream_capture() -> Iterator[Capture]:
    """A sidecar whose events the test can look at; closed after the test."""
    capture = Capture()
    yield capture
    capture.sidecar.close()
