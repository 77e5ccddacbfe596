"""Fixtures for pytest: `sidestream_capture` keeps the events for assertions, `sidestream_cassette` replays models.

def test_my_agent(sidestream_capture):
    agent = sidestream_capture.observe(build_agent())
    agent.run_sync("…")
    assert sidestream_capture.of("agent_end")[0].data.outcome == "completed"

def test_with_a_real_model(sidestream_cassette):
    agent = sidestream_cassette.use(build_agent())      # first run: requests to the model; later runs: the cassette
    assert "refund" in agent.run_sync("…").output

A cassette is a log beside the test, `cassettes/<file>/<test>.jsonl`. `--sidestream-record` records anew. With `CI=true`
in the environment, a missing cassette is an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:  # every pytest of the environment imports this module: the import must stay cheap
    from sidestream.events import StreamEvent
    from sidestream.sidecar import Sidecar

    from .cassette import Cassette

AgentT = TypeVar("AgentT")


class Capture:
    """Sidecar with an in-memory exporter. Each read flushes first, so that no event is still pending."""

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
        """All events recorded so far. Raises `AssertionError` if the flush leaves events undelivered."""
        undelivered = self.sidecar.flush()
        assert not undelivered, f"events not delivered: {undelivered}"
        return self._memory.events

    def of(self, *event_types: str) -> list[StreamEvent]:
        """Events of the given types."""
        return [event for event in self.events if event.event_type in event_types]

    def runs(self) -> dict[str, list[StreamEvent]]:
        """Events by run id, ordered by each run's first event."""
        _ = self.events
        return self._memory.runs()

    def clear(self) -> None:
        """Discard all events recorded so far."""
        _ = self.events
        self._memory.clear()


@pytest.fixture
def sidestream_capture() -> Iterator[Capture]:
    """Sidecar that keeps its events in memory for assertions; closed after the test."""
    capture = Capture()
    yield capture
    capture.sidecar.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--sidestream-record`, which records cassettes anew."""
    group = parser.getgroup("sidestream")
    group.addoption("--sidestream-record", action="store_true", help="record the cassettes of sidestream_cassette anew")


@pytest.fixture
def sidestream_cassette(request: pytest.FixtureRequest) -> Iterator[Cassette]:
    """Cassette of the test: records the models' answers on the first run, replays them on every later run."""
    from .cassette import Cassette

    name = re.sub(r"[^\w.-]+", "_", request.node.name)
    file = request.path.parent / "cassettes" / request.path.stem / f"{name}.jsonl"
    record = bool(request.config.getoption("--sidestream-record"))
    failed = request.session.testsfailed
    cassette = Cassette(file, record=record, may_record=record or os.environ.get("CI") != "true")
    yield cassette
    cassette.close(keep=request.session.testsfailed == failed)
