"""Sidecar whose events are witnessed where the assembler makes them, and compared with those of its exporters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from sidestream import Sidecar
from sidestream.events import StreamEvent
from sidestream.pipeline.queue import RANKS
from sidestream.stats import ExporterStats
from tests.support.driven_programs import DrivenRun
from tests.support.faulty_exporters import Fickle, is_balanced
from tests.support.loopback import until
from tests.support.run_outline import assert_whole, of, outline

Key = tuple[str, int]


class Recording(Fickle):
    """Fickle exporter that also keeps each batch that it was offered, delivered or not."""

    def __init__(self, *, threaded: bool, durable: bool, skip: Iterable[str] = ()) -> None:
        super().__init__(threaded=threaded, durable=durable)
        self.skip = frozenset(skip)
        self.offered: list[list[StreamEvent]] = []

    def export(self, events: Sequence[StreamEvent]) -> Mapping[str, int] | None:  # type: ignore[override]
        self.offered.append(list(events))
        return super().export(events)

    def after_fork(self) -> None:
        super().after_fork()
        self.change("works")
        self.offered = []


class WitnessedSidecar:
    """Sidecar from its creation to its close, with what must hold at every moment.

    Args:
        exporters: Exporters of the sidecar.
        buffer: Maximum number of events in each exporter's queue.
    """

    def __init__(self, *exporters: Recording, buffer: int) -> None:
        self.exporters = exporters
        self.buffer = buffer
        self.sidecar = Sidecar(*exporters, buffer_events=buffer)
        self.events: list[StreamEvent] = []
        """All events of the assembler, in order."""
        assembler: Any = self.sidecar._assembler
        assembler.feed = self._witness(assembler.feed)
        assembler.flush_stale = self._witness(assembler.flush_stale)
        self.closed = False
        self.forget()

    def forget(self) -> None:
        """Forget all events, in a forked child."""
        self.events.clear()
        self.scores = 0
        """Number of recorded scores."""
        self._examined = 0
        self._types = Counter[str]()
        self._order: dict[Key, int] = {}
        self._next_seq = Counter[str]()
        self._received = [0] * len(self.exporters)
        self._latest = [-1] * len(self.exporters)
        self._before: list[ExporterStats | None] = [None] * len(self.exporters)
        self._whole: set[str] = set()

    def _witness(self, call: Callable[..., None]) -> Callable[..., None]:
        def witnessed(argument: Any, emit: Callable[[StreamEvent], None]) -> None:
            def both(event: StreamEvent) -> None:
                self.events.append(event)
                emit(event)

            call(argument, both)

        return witnessed

    @property
    def moods(self) -> set[str]:
        return {exporter.mood for exporter in self.exporters}

    # --- what holds at every moment ---

    def check(self) -> None:
        """Check statistics, sequence numbers, and the order of the events of each exporter."""
        stats = self.sidecar.stats()
        assert stats.recording_errors == 0, self.sidecar._last_trouble
        received = [exporter.events for exporter in self.exporters]
        self._examine()
        for number, (exporter, each) in enumerate(zip(self.exporters, stats.exporters.values(), strict=True)):
            assert is_balanced(each)
            assert each.seen <= self._wanted(exporter)
            assert each.exported + exporter.lost <= len(received[number]) + (exporter.mood == "loses one of each batch")
            before, self._before[number] = self._before[number], each
            if before is not None:
                assert before.seen <= each.seen
                assert before.exported <= each.exported
                assert all(count <= each.dropped[reason] for reason, count in before.dropped.items())
            for event in received[number][self._received[number] :]:
                place = self._order[event.run_id, event.seq]  # an event that no run of this process has made: KeyError
                assert place > self._latest[number], "an event is exported twice, or too late"
                self._latest[number] = place
            self._received[number] = len(received[number])

    def _examine(self) -> None:
        """Check the sequence numbers of new events."""
        for event in self.events[self._examined :]:
            self._order[event.run_id, event.seq] = self._examined
            self._examined += 1
            self._types[event.event_type] += 1
            if event.event_type != "score":
                assert event.seq == self._next_seq[event.run_id]
                assert (event.event_type == "agent_start") == (event.seq == 0)
                self._next_seq[event.run_id] += 1

    def _wanted(self, exporter: Recording) -> int:
        return len(self._order) - sum(self._types[name] for name in exporter.skip)

    # --- what holds at last ---

    def settle(self) -> None:
        """Wait until all records are counted."""
        until(self._is_settled)
        self.check()

    def _is_settled(self) -> bool:
        stats = self.sidecar.stats()
        self._examine()
        return stats.pending_records == 0 and all(
            each.seen == self._wanted(exporter)
            for exporter, each in zip(self.exporters, stats.exporters.values(), strict=True)
        )

    def check_runs(self, runs: Iterable[DrivenRun], optional: set[str]) -> None:
        """Check the finished ones of `runs` against their events; those of `optional` may be missing."""
        events: dict[str, list[StreamEvent]] = {}
        for event in self.events:
            if event.event_type != "score":
                events.setdefault(event.run_id, []).append(event)
        by_name = {of(each, "agent_start")[0].prompt: each for each in events.values()}
        assert len(by_name) == len(events), "a run is recorded twice"
        assert self._types["score"] == self.scores
        here = {run.name: run for run in runs if run.sidecar is self.sidecar}
        assert by_name.keys() <= here.keys(), "a run of another process or sidecar"
        for name, run in here.items():
            if name not in by_name:
                assert name in optional, f"run {name} is missing"
            elif run.outcome is not None and not run.left_alone and name not in self._whole:
                self._whole.add(name)
                check_run(run, by_name[name], by_name)

    def check_drops(self) -> None:
        """Check the reasons of drops, and that more important events outlast deltas."""
        for exporter, stats in zip(self.exporters, self.sidecar.stats().exporters.values(), strict=True):
            if self.buffer >= 10_000:
                assert "overflow" not in stats.dropped
            wanted = [event for event in self.events[: self._examined] if event.event_type not in exporter.skip]
            place = {(event.run_id, event.seq): number for number, event in enumerate(wanted)}
            for batch in exporter.offered:
                lowest = 2
                for event, following in pairwise(batch):
                    lowest = min(lowest, RANKS.get(event.event_type, 1))
                    first, last = (place[each.run_id, each.seq] for each in (event, following))
                    for missing in wanted[first + 1 : last]:
                        assert RANKS.get(missing.event_type, 1) <= lowest, "a less important event outlasted it"


def check_run(run: DrivenRun, events: Sequence[StreamEvent], by_name: Mapping[str, Sequence[StreamEvent]]) -> None:
    """Check one finished run: complete, with the outcome, text and parent that its consumer knows."""
    assert_whole(events)
    start, end = of(events, "agent_start")[0], of(events, "agent_end")[0]
    if not run.ends_unseen:
        assert end.outcome == run.outcome, (run, end)
    text = "".join(chunk.text for chunk in of(events, "llm_chunk") if chunk.kind == "text")
    assert text == run.text if run.outcome == "completed" else run.text.startswith(text)
    parent = run.parent if run.parent is not None and run.parent.sidecar is run.sidecar else None
    if parent is None:
        assert start.parent_run_id is None
        return
    parents = by_name[parent.name]
    link = start.parent_run_id, start.parent_tool_call_id
    assert link == (parents[0].run_id, run.tool_call_id), (run, outline(parents), outline(events))
    assert start.trace_id == of(parents, "agent_start")[0].trace_id
