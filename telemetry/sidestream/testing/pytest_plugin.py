"""Fixtures for pytest: `sidestream_capture`, a sidecar whose events a test can look at, and `sidestream_cassette`.

def test_my_agent(sidestream_capture):
    agent = sidestream_capture.observe(build_agent())
    agent.run_sync("…")
    assert sidestream_capture.of("agent_end")[0].data.outcome == "completed"

def test_with_a_real_model(sidestream_cassette):
    agent = sidestream_cassette.use(build_agent())      # asks the model once, and the cassette from then on
    assert "refund" in agent.run_sync("…").output

A cassette is a log beside the test, `cassettes/<file>/<test>.jsonl`. `--sidestream-record` records anew, and with
`CI=true` in the environment a cassette that is not there is a failure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:  # every pytest of the environment loads this module: it must cost nothing
    from sidestream.events import StreamEvent
    from sidestream.sidecar import Sidecar

    from .cassette import Cassette

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


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that records cassettes anew."""
    group = parser.getgroup("sidestream")
    group.addoption("--sidestream-record", action="store_true", help="record the cassettes of sidestream_cassette anew")


@pytest.fixture
def sidestream_cassette(request: pytest.FixtureRequest) -> Iterator[Cassette]:
    """Records what models answer on the first run of a test, and answers from that on every run after it."""
    from .cassette import Cassette

    name = re.sub(r"[^\w.-]+", "_", request.node.name)
    file = request.path.parent / "cassettes" / request.path.stem / f"{name}.jsonl"
    record = bool(request.config.getoption("--sidestream-record"))
    failed = request.session.testsfailed
    cassette = Cassette(file, record=record, may_record=record or os.environ.get("CI") != "true")
    yield cassette
    cassette.close(keep=request.session.testsfailed == failed)
