"""Misbehaving exporters, and events for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count

from sidestream.errors import ExporterUnavailable
from sidestream.events import (
    AgentEnd,
    Error,
    LLMChunk,
    LLMEnd,
    Payload,
    StreamEvent,
    ToolStart,
    make_event,
)
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.memory import InMemoryExporter
from sidestream.pipeline.pipeline import Pipeline
from sidestream.stats import ExporterStats

SAFETY = 20.0
"""Seconds after which an expected event is considered missing."""

Behaviour = Callable[[Sequence[StreamEvent]], Mapping[str, int] | None]

PAYLOADS: dict[str, Payload] = {
    "llm_chunk": LLMChunk(kind="text", text="word"),
    "tool_start": ToolStart(tool_name="search"),
    "llm_end": LLMEnd(request=1, outcome="ok", duration_seconds=1.0, usage_source="none"),
    "error": Error(where="model", error="no"),
    "agent_end": AgentEnd(outcome="completed", success=True, duration_seconds=1.0),
}

_numbers = count()


def an_event(event_type: str = "tool_start", seq: int | None = None) -> StreamEvent:
    """Event with a `seq` that is unique in this process, unless given."""
    return make_event(PAYLOADS[event_type], run_id="r", seq=next(_numbers) if seq is None else seq)


def works(events: Sequence[StreamEvent]) -> None:
    return


def raising(error: BaseException) -> Behaviour:
    def behave(events: Sequence[StreamEvent]) -> None:
        raise error

    return behave


away = raising(ExporterUnavailable("away"))


class Scripted(InMemoryExporter):
    """Calls `behaviour`, then keeps the events."""

    name = "scripted"
    interval = 0.001

    def __init__(self, behaviour: Behaviour = works) -> None:
        super().__init__()
        self.behaviour = behaviour
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def export(self, events: Sequence[StreamEvent]) -> Mapping[str, int] | None:  # type: ignore[override]
        self.calls.append("export")
        lost = self.behaviour(events)
        super().export(events)
        return lost

    def flush(self) -> None:
        self.calls.append("flush")

    def close(self) -> None:
        self.calls.append("close")

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.events]


class Hanging(Scripted):
    """Blocks in `export` until released."""

    name = "hanging"

    def __init__(self) -> None:
        super().__init__(self._hang)
        self.entered = threading.Event()
        self.released = threading.Event()

    def _hang(self, events: Sequence[StreamEvent]) -> None:
        self.entered.set()
        self.released.wait(SAFETY)


FAULTS: dict[str, BaseException] = {
    "raises": ValueError("no"),
    "raises SystemExit": SystemExit(3),
    "raises KeyboardInterrupt": KeyboardInterrupt(),
    "raises GeneratorExit": GeneratorExit(),
    "is away": ExporterUnavailable("away"),
}
BEHAVIOURS = ["works", *FAULTS, "is slow", "loses one of each batch", "hangs"]


class Fickle(Scripted):
    """Exporter that behaves according to `mood` and keeps its events. `release` ends a hang."""

    name = "fickle"

    def __init__(self, *, threaded: bool, durable: bool) -> None:
        super().__init__(self._behave)
        self.threaded, self.durable = threaded, durable
        self.mood = "works"
        self.lost = 0
        self.released = threading.Event()

    def _behave(self, events: Sequence[StreamEvent]) -> dict[str, int] | None:
        mood = self.mood  # another thread may change it during the call
        if mood in FAULTS:
            raise FAULTS[mood]
        if mood == "hangs":
            self.released.wait(SAFETY)
        if mood == "is slow":
            time.sleep(0.001)
        if mood == "loses one of each batch":
            self.lost += 1
            return {"rejected": 1}
        return None

    def change(self, mood: str) -> None:
        self.mood = mood
        self.released.set()
        self.released = threading.Event()

    def after_fork(self) -> None:
        super().after_fork()
        self.lost = 0
        self.calls = []


def a_pipeline(*exporters: Exporter, max_events: int = 10_000, max_bytes: int = 10**9) -> Pipeline:
    return Pipeline(exporters, max_events=max_events, max_bytes=max_bytes)


def stats_of(pipeline: Pipeline) -> ExporterStats:
    """Statistics of a pipeline's first exporter."""
    return next(iter(pipeline.stats().values()))


@contextmanager
def hung(*beside: Exporter, max_events: int = 10_000) -> Iterator[tuple[Pipeline, Hanging]]:
    """Pipeline whose first exporter blocks in its first call, holding one event."""
    exporter = Hanging()
    pipeline = a_pipeline(exporter, *beside, max_events=max_events)
    try:
        pipeline.put(an_event())
        assert exporter.entered.wait(SAFETY)
        yield pipeline, exporter
    finally:
        exporter.released.set()
        pipeline.close(SAFETY)


def is_balanced(stats: ExporterStats) -> bool:
    return stats.seen == stats.exported + sum(stats.dropped.values()) + stats.pending and stats.pending >= 0
