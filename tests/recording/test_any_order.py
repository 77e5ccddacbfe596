"""Recorder and assembler with actions in any order: each run is logged once, in order and without gaps."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from sidestream.events import StreamEvent
from sidestream.recording.assembler import RunAssembler
from sidestream.recording.context import Link
from sidestream.recording.failure import Failure
from sidestream.recording.records import Deltas, FlushDeltas
from sidestream.recording.request_recorder import RequestRecorder
from sidestream.recording.run_recorder import RunRecorder

OF_REQUEST = ("ok", "error", "cancelled", "interrupted", "retry")
OF_TOOL = ("ok", "retry", "failed", "deferred", "cancelled")
OF_RUN = ("completed", "error", "cancelled", "timed_out", "abandoned")


class Runs(RuleBasedStateMachine):
    """Nested runs whose records are processed at arbitrary times.

    Ends may be repeated at any time, as by the garbage collector, and a teardown may record after the end of its run.
    """

    runs = Bundle("runs")
    requests = Bundle("requests")
    parts = Bundle("parts")
    tools = Bundle("tools")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.records: deque[Any] = deque()
        self.assembler = RunAssembler()
        self.events: list[StreamEvent] = []
        self.recorders: list[RunRecorder] = []
        self.said: Counter[str] = Counter()
        """Characters of each run's answers."""

    def clock(self) -> int:
        self.now += 7_000_000
        return self.now

    # --- the caller's path ---

    def _run(self, parent: Link | None) -> RunRecorder:
        number = len(self.recorders)
        run = RunRecorder(
            self.records.append, run_id=f"run-{number}", parent=parent, clock=self.clock, wall=lambda: self.now
        )
        run.start()
        self.recorders.append(run)
        return run

    @rule(target=runs)
    def begins(self) -> RunRecorder:
        return self._run(None)

    @rule(target=runs, parent=runs)
    def begins_within(self, parent: RunRecorder) -> RunRecorder:
        return self._run(Link(parent, "call"))

    @rule(target=requests, run=runs, streaming=st.booleans())
    def asks(self, run: RunRecorder, streaming: bool) -> RequestRecorder:
        return run.request(model="m", streaming=streaming)

    @rule(target=parts, request=requests, index=st.integers(0, 2), text=st.sampled_from([None, "", "first"]))
    def opens(self, request: RequestRecorder, index: int, text: str | None) -> tuple[RequestRecorder, Deltas]:
        request.pulled(self.clock(), self.clock(), chunk=True)
        if not (request.done or request.run.ended):
            self.said[request.run.run_id] += len(text or "")
        return request, request.open_part(index, "text", self.now, text=text)

    @rule(part=parts, texts=st.lists(st.sampled_from(["", "a", "bc"]), min_size=1, max_size=5))
    def says(self, part: tuple[RequestRecorder, Deltas], texts: list[str]) -> None:
        request, deltas = part
        if request.done or request._parts.get(deltas.index) is not deltas:
            return  # a source appends to the current part only
        if request.run.ended:
            return
        request.resume_part(deltas, "text", self.clock())
        for text in texts:
            deltas.noted += (text, self.clock(), self.clock())
            self.said[request.run.run_id] += len(text)

    @rule(part=parts)
    def closes(self, part: tuple[RequestRecorder, Deltas]) -> None:
        part[0].close_part(part[1].index, self.clock())

    @rule(request=requests, outcome=st.sampled_from(OF_REQUEST))
    def answers(self, request: RequestRecorder, outcome: Any) -> None:
        request.end(outcome)

    @rule(target=tools, run=runs)
    def calls(self, run: RunRecorder) -> tuple[RunRecorder, int]:
        return run, run.tool_start("look", "call", {"q": 1}, 1)

    @rule(tool=tools, outcome=st.sampled_from(OF_TOOL))
    def returns(self, tool: tuple[RunRecorder, int], outcome: Any) -> None:
        tool[0].tool_end(tool[1], outcome, result="seen")

    @rule(run=runs)
    def retries(self, run: RunRecorder) -> None:
        run.retry(cause="model_retry")

    @rule(run=runs, outcome=st.sampled_from(OF_RUN))
    def ends(self, run: RunRecorder, outcome: Any) -> None:
        run.end(outcome, Failure("ValueError", "a bug") if outcome == "error" else None)

    # --- the worker ---

    @rule(number=st.integers(1, 20))
    def takes(self, number: int) -> None:
        for _ in range(min(number, len(self.records))):
            self.assembler.feed(self.records.popleft(), self.events.append)

    @rule()
    def looks_at_what_stands_still(self) -> None:
        self.assembler.flush_stale(self.now, self.events.append)

    @rule()
    def flushes(self) -> None:
        self.records.append(FlushDeltas())

    # --- what holds ---

    @invariant()
    def is_in_order_without_a_gap(self) -> None:
        told: Counter[str] = Counter()
        for event in self.events:
            assert event.seq == told[event.run_id]
            assert (event.event_type == "agent_start") == (event.seq == 0)
            told[event.run_id] += 1

    def teardown(self) -> None:
        for run in self.recorders:
            run.end("abandoned")
        self.takes(len(self.records))
        self.is_in_order_without_a_gap()
        for run in self.recorders:
            of_run = [event for event in self.events if event.run_id == run.run_id]
            kinds = Counter[str](event.event_type for event in of_run)
            assert of_run[-1].event_type == "agent_end"
            assert kinds["agent_start"] == kinds["agent_end"] == 1
            assert kinds["llm_start"] == kinds["llm_end"] == kinds["progress"] == of_run[-1].data.total_iterations
            assert kinds["tool_start"] == kinds["tool_end"] == of_run[-1].data.tool_calls
            chunks = [event.data.text for event in of_run if event.event_type == "llm_chunk"]
            assert len("".join(chunks)) == self.said[run.run_id]
            spans = [event.data.span_id for event in of_run if event.event_type in ("llm_start", "tool_start")]
            assert len(set(spans)) == len(spans)


Runs.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestRuns = Runs.TestCase
