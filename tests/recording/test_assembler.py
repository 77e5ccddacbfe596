"""Assembler: raw records in, events out. Times are simulated, and therefore exact."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from sidestream.events import LLMChunk, Progress, StreamEvent, Usage
from sidestream.recording.assembler import RunAssembler
from sidestream.recording.context import Link
from sidestream.recording.direct import DirectAssembly
from sidestream.recording.failure import Failure
from sidestream.recording.pricing import Cost
from sidestream.recording.records import Deltas
from sidestream.recording.request_recorder import RequestRecorder
from sidestream.recording.response import ResponseFacts
from sidestream.recording.run_recorder import RunRecorder

MS = 1_000_000
START = 1_700_000_000_000_000_000


class Stage:
    """Run with a clock that only moves on request."""

    def __init__(self, **settings: Any) -> None:
        self.events: list[StreamEvent] = []
        self.now = 5_000 * MS
        self.assembly = DirectAssembly(RunAssembler(**settings), self.events.append)
        self.run = self.another("r")
        self.run.start()

    def another(self, run_id: str, parent: Link | None = None) -> RunRecorder:
        return RunRecorder(
            self.assembly.append,
            run_id=run_id,
            agent_name="clerk",
            parent=parent,
            clock=lambda: self.now,
            wall=lambda: START + self.now,
        )

    def after(self, ms: float) -> int:
        self.now += int(ms * MS)
        return self.now

    def request(self, **settings: Any) -> RequestRecorder:
        request = self.run.request(model="m", streaming=True, **settings)
        request.begin_stream()
        return request

    def opens(self, request: RequestRecorder, index: int = 0, **settings: Any) -> Deltas:
        request.pulled(self.now, self.after(10), chunk=True)
        return request.open_part(index, settings.pop("kind", "text"), self.now, **settings)

    def say(self, deltas: Deltas, text: str, *, wait: float = 0, hold: float = 0) -> None:
        asked = self.after(hold)
        deltas.noted += (text, asked, self.after(wait))

    def of(self, kind: str) -> list[Any]:
        return [event.data for event in self.events if event.event_type == kind]

    def one(self, kind: str) -> Any:
        (data,) = self.of(kind)
        return data

    @property
    def outline(self) -> str:
        """Event types, with outcomes if present."""
        words = []
        for event in self.events:
            outcome = getattr(event.data, "outcome", None)
            words.append(f"{event.event_type}:{outcome}" if outcome else str(event.event_type))
        return " ".join(words)


def plain_answer(stage: Stage) -> None:
    request = stage.request()
    deltas = stage.opens(request)
    stage.say(deltas, "hello")
    request.end("ok")
    stage.run.end("completed")


def tool_between_two_requests(stage: Stage) -> None:
    stage.request().end("ok")
    stage.run.tool_end(stage.run.tool_start("look", "c1", {"q": 1}, 1), "ok", result="found")
    stage.request().end("ok")
    stage.run.final_result("done", "str")
    stage.run.end("completed")


def retried_tool(stage: Stage) -> None:
    stage.request().end("ok")
    stage.run.tool_end(stage.run.tool_start("look", "c1"), "retry", failure=Failure("ModelRetry", "no"))
    stage.run.retry(cause="model_retry", tool_name="look")
    stage.run.end("completed")


def cancelled_with_all_open(stage: Stage) -> None:
    request = stage.request()
    stage.say(stage.opens(request), "half")
    stage.run.tool_start("look", "c1")
    stage.run.end("cancelled")


def abandoned_with_all_open(stage: Stage) -> None:
    stage.request()
    stage.run.end("abandoned")


def told_twice(stage: Stage) -> None:
    request = stage.request()
    span = stage.run.tool_start("look")
    for _ in range(2):
        request.end("ok")
        stage.run.tool_end(span, "ok")
    for _ in range(2):
        stage.run.end("completed")


def teardown_after_the_end(stage: Stage) -> None:
    request, span = stage.request(), stage.run.tool_start("look")
    stage.run.end("cancelled")
    request.pulled(stage.now, stage.now, chunk=True)
    request.end("ok")
    stage.run.tool_end(span, "ok")
    stage.run.custom("late")
    stage.run.end("completed")


def failure_of_the_model(stage: Stage) -> None:
    request, failure = stage.request(), Failure("Boom", "no luck")
    stage.run.error(failure, "model", identity=7, request=1)
    stage.run.error(failure, "run", identity=7)  # the same exception, propagating
    request.end("error", failure=failure)
    stage.run.end("error", failure)


REQUEST = "llm_start llm_end:ok progress"


@pytest.mark.parametrize(
    ("act", "events"),
    [
        (plain_answer, "agent_start llm_start llm_chunk llm_end:ok progress agent_end:completed"),
        (
            tool_between_two_requests,
            f"agent_start {REQUEST} tool_start tool_end:ok {REQUEST} final_result agent_end:completed",
        ),
        (retried_tool, f"agent_start {REQUEST} tool_start tool_end:retry retry agent_end:completed"),
        (
            cancelled_with_all_open,
            "agent_start llm_start tool_start llm_chunk llm_end:cancelled progress tool_end:cancelled "
            "agent_end:cancelled",
        ),
        (abandoned_with_all_open, "agent_start llm_start llm_end:interrupted progress agent_end:abandoned"),
        (told_twice, "agent_start llm_start tool_start llm_end:ok progress tool_end:ok agent_end:completed"),
        (
            teardown_after_the_end,
            "agent_start llm_start tool_start llm_end:cancelled progress tool_end:cancelled agent_end:cancelled",
        ),
        (failure_of_the_model, "agent_start llm_start error llm_end:error progress agent_end:error"),
    ],
)
def test_records_become_events(act: Callable[[Stage], None], events: str) -> None:
    stage = Stage()
    act(stage)
    assert stage.outline == events
    assert [event.seq for event in stage.events] == list(range(len(stage.events)))


# --- times -----------------------------------------------------------------------------------------------------------


def test_timestamp_and_offset_are_those_of_what_happened() -> None:
    stage = Stage()
    stage.after(1_500)
    stage.run.custom("late")
    assert [event.offset for event in stage.events] == [0.0, 1.5]
    assert stage.events[1].timestamp.timestamp() == (START + 6_500 * MS) / 1e9


@pytest.mark.scenario_21
def test_a_step_of_the_wall_clock_shows_from_the_next_request_on() -> None:
    stage = Stage()
    stage.run._wall = lambda: START + stage.now + 60_000 * MS
    stage.run.custom("before")
    stage.request()
    before, after = stage.events[-2:]
    assert (after.timestamp - before.timestamp).total_seconds() == 60
    assert after.offset == before.offset


def test_the_times_of_an_answer_tell_provider_and_consumer_apart() -> None:
    stage = Stage()
    request = stage.request()
    stage.after(100)  # the consumer is busy before the first pull
    deltas = stage.opens(request)
    stage.say(deltas, "", wait=50)
    stage.say(deltas, "a", wait=200, hold=30)
    stage.say(deltas, "b", wait=3_000)
    request.end("ok")
    end = stage.one("llm_end")
    assert end.provider_wait_seconds == pytest.approx(3.26)
    assert end.consumer_hold_seconds == pytest.approx(0.13)
    assert end.time_to_first_chunk_seconds == pytest.approx(0.01)
    assert end.time_to_first_token_seconds == {"text": pytest.approx(0.39)}  # the pull had to wait
    assert (end.gap_max_seconds, end.stalls, end.chunks) == (3.0, 1, 4)


def test_the_beginning_of_a_request_that_nobody_saw_has_no_time_to_first_token() -> None:
    stage = Stage()
    request = stage.request()
    stage.say(stage.opens(request), "a")
    request.end("ok", start_known=False)
    end = stage.one("llm_end")
    assert end.start_unknown is True
    assert (end.time_to_first_chunk_seconds, end.time_to_first_token_seconds) == (None, None)


def test_an_end_may_be_told_later_than_it_was() -> None:
    stage = Stage()
    request, over = stage.request(), stage.after(100)
    stage.after(400)
    request.end("interrupted", at=over)
    assert stage.one("llm_end").duration_seconds == 0.1
    assert stage.events[-2].offset == 0.5


# --- deltas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunk_seconds", "waits", "chunks"),
    [
        (0.1, [40, 40, 40, 40, 40], ["abc", "de"]),
        (0.1, [0, 0, 0, 0, 0], ["abcde"]),
        (0.1, [500, 500, 0, 0, 0], ["a", "b", "cde"]),
        (0, [40, 0, 0, 40, 0], ["a", "b", "c", "d", "e"]),
        (None, [500, 500, 500, 500, 500], ["abcde"]),
    ],
)
def test_deltas_are_gathered_by_their_own_times(
    chunk_seconds: float | None, waits: list[float], chunks: list[str]
) -> None:
    """The result does not depend on when the assembler processes the records."""
    stage = Stage(chunk_seconds=chunk_seconds)
    request = stage.request()
    deltas = stage.opens(request)
    for text, wait in zip("abcde", waits, strict=True):
        stage.say(deltas, text, wait=wait)
    request.close_part(0, stage.now)
    assert [chunk.text for chunk in stage.of("llm_chunk")] == chunks


def test_many_deltas_at_once_make_chunks_of_256() -> None:
    stage = Stage()
    request = stage.request()
    deltas = stage.opens(request)
    for _ in range(600):
        stage.say(deltas, "x")
    request.close_parts()
    assert [len(chunk.lengths) for chunk in stage.of("llm_chunk")] == [256, 256, 88]


def test_a_stream_that_stands_still_is_told_after_a_while() -> None:
    stage = Stage()
    deltas = stage.opens(stage.request())
    stage.say(deltas, "hello")
    stage.assembly.flush_stale(stage.after(99))
    assert stage.of("llm_chunk") == []
    stage.assembly.flush_stale(stage.after(1))
    assert [chunk.text for chunk in stage.of("llm_chunk")] == ["hello"]
    stage.assembly.flush_stale(stage.after(1_000))
    assert len(stage.of("llm_chunk")) == 1


def test_parts_that_are_streamed_side_by_side_are_told_apart() -> None:
    stage = Stage()
    request = stage.request()
    first = stage.opens(request, 0, kind="tool_call", tool_name="one", tool_call_id="c1", named=True)
    stage.say(first, "{")
    second = stage.opens(request, 1, kind="tool_call", tool_name="two", tool_call_id="c2", named=True)
    stage.say(second, "[")
    request.pulled(stage.now, stage.now, chunk=True)
    again = request.part(0)
    request.resume_part(again, "tool_call", stage.now, "}")
    request.close_parts()
    told = [(chunk.part, chunk.tool_name, chunk.text) for chunk in stage.of("llm_chunk")]
    assert told == [(0, "one", "{}"), (1, "two", "[")]


def test_deltas_that_came_after_a_record_are_taken_after_it() -> None:
    """The path continues while the assembler lags behind: the order follows the times of the records."""
    records: list[Any] = []
    stage = Stage()
    stage.run._append = records.append
    request = stage.request()
    request._append = records.append
    deltas = stage.opens(request)
    stage.say(deltas, "a", wait=10)
    asked = stage.now
    request.pulled(asked, stage.after(70), chunk=False)
    stage.say(deltas, "b", wait=10)
    for record in records:
        stage.assembly.append(record)
    stage.run._append = request._append = stage.assembly.append
    request.end("ok")
    end = stage.one("llm_end")
    assert (end.provider_wait_seconds, end.consumer_hold_seconds, end.gap_max_seconds) == (0.1, 0.0, 0.07)


# --- totals ----------------------------------------------------------------------------------------------------------


def used(tokens: int, usd: str | None) -> ResponseFacts:
    return ResponseFacts(
        usage=Usage(input_tokens=tokens),
        usage_source="provider",
        cost=None if usd is None else Cost(Decimal(usd), "provider"),
        unpriced=usd is None,
        response_model="m-1",
    )


def test_what_a_sub_agent_used_is_its_parents_too() -> None:
    stage = Stage()
    span = stage.run.tool_start("ask", "c1")
    child = stage.another("child", Link(stage.run, "c1", span=span))
    child.start()
    child.request(model="m", streaming=False).end("ok", used(100, "0.5"))
    child.end("completed")
    stage.run.request(model="m", streaming=False).end("ok", used(10, "0.1"))
    stage.run.end("completed")
    start, (of_child, of_parent) = stage.of("agent_start")[1], stage.of("agent_end")
    assert (start.parent_run_id, start.parent_agent_name, start.depth) == ("r", "clerk", 1)
    assert (of_child.cost_usd, of_parent.cost_usd, of_parent.cost_usd_with_children) == (0.5, 0.1, 0.6)
    assert (of_parent.sub_agents, of_parent.incomplete_sub_agents) == (1, None)


def test_a_sub_agent_that_nobody_waits_for_is_counted_from_its_start() -> None:
    stage = Stage()
    stage.another("child", Link(stage.run)).start()
    stage.run.end("completed")
    end = stage.one("agent_end")
    assert (end.sub_agents, end.incomplete_sub_agents) == (1, 1)


def test_requests_without_a_price_are_counted_once_and_named() -> None:
    stage = Stage()
    stage.run.request(model="m", streaming=False).end("ok", used(10, None))
    stage.run.end("completed")
    assembler = stage.assembly.assembler
    assert (stage.one("agent_end").unpriced_requests, assembler.unpriced_requests) == (1, 1)
    assert assembler.unpriced_models == {"m-1"}


# --- what is told at all ---------------------------------------------------------------------------------------------


def test_what_is_not_wanted_takes_no_number() -> None:
    stage = Stage(wanted=lambda data: not isinstance(data, LLMChunk | Progress))
    plain_answer(stage)
    assert stage.outline == "agent_start llm_start llm_end:ok agent_end:completed"
    assert [event.seq for event in stage.events] == [0, 1, 2, 3]


def test_spans_are_numbered_on_the_path_and_told_at_both_ends() -> None:
    stage = Stage()
    tool_between_two_requests(stage)
    starts = [*stage.of("llm_start"), *stage.of("tool_start")]
    ends = [*stage.of("llm_end"), *stage.of("tool_end")]
    assert [start.span_id for start in starts] == [end.span_id for end in ends]
    assert len({start.span_id for start in starts} | {stage.one("agent_start").span_id}) == 4


def test_a_record_noted_while_another_is_taken_waits_for_its_turn() -> None:
    """The garbage collector and signal handlers may record at any bytecode."""
    events: list[StreamEvent] = []
    runs: list[RunRecorder] = []

    def emit(event: StreamEvent) -> None:
        if event.event_type == "llm_start":
            runs[0].end("abandoned")
        events.append(event)

    runs.append(RunRecorder(DirectAssembly(RunAssembler(), emit).append, run_id="r"))
    runs[0].start()
    runs[0].request(model="m", streaming=False)
    assert [event.seq for event in events] == [0, 1, 2, 3, 4]
    assert events[-1].event_type == "agent_end"
