"""Guarantees of flush and close, and the independence of agents from exporters and the number of runs."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from sidestream import Sidecar, StreamEvent
from sidestream.diagnostics import forget
from tests.support.abandoned_runs import abandon, two_pieces
from tests.support.faulty_exporters import SAFETY, Behaviour, Hanging, Scripted, away, is_balanced, raising
from tests.support.loopback import until


def record(sidecar: Sidecar, run_id: str = "r", events: int = 1) -> None:
    """Run of `events + 2` events."""
    run = sidecar.open_run(run_id, "agent", None)
    run.start()
    for number in range(events):
        run.custom("step", number)
    run.end("completed")
    sidecar.close_run(run)


def an_agent() -> Agent[None, str]:
    """Model that calls a tool, then answers in five words."""

    def is_first(messages: list[ModelMessage]) -> bool:
        return len(messages) == 1

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if is_first(messages):
            return ModelResponse(parts=[ToolCallPart("double", {"x": 21}, "call-1")])
        return ModelResponse(parts=[TextPart("the answer is forty two")])

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        if is_first(messages):
            yield {0: DeltaToolCall("double", '{"x": 21}', tool_call_id="call-1")}
            return
        for word in ("the ", "answer ", "is ", "forty ", "two"):
            await asyncio.sleep(0)
            yield word

    agent = Agent(FunctionModel(answer, stream_function=stream), name="doubler")

    @agent.tool_plain
    def double(x: int) -> int:
        return 2 * x

    return agent


class TestFlush:
    def test_flush_delivers_what_has_been_seen(self) -> None:
        exporter = Scripted()
        exporter.interval = SAFETY
        with Sidecar(exporter) as sidecar:
            record(sidecar, events=100)
            assert sidecar.flush(SAFETY) == {}
            assert len(exporter) == 102

    def test_flush_comes_back_at_its_deadline_and_tells_by_exporter_what_lacks(self) -> None:
        hanging, healthy = Hanging(), Scripted()
        sidecar = Sidecar(hanging, healthy)
        record(sidecar)
        assert sidecar.flush(0.05) == {"hanging": 3}
        assert len(healthy) == 3
        assert not hanging.released.is_set()
        hanging.released.set()
        assert sidecar.flush(SAFETY) == {}
        sidecar.close()

    def test_flush_tells_what_an_exporter_lost_meanwhile(self) -> None:
        with Sidecar(Scripted(raising(ValueError()))) as sidecar:
            record(sidecar)
            assert sidecar.flush(SAFETY) == {"scripted": 3}
            assert sidecar.flush(SAFETY) == {}

    def test_flush_tells_what_an_unavailable_exporter_still_has_to_deliver(self) -> None:
        exporter = Scripted(away)
        with Sidecar(exporter, close_timeout=0) as sidecar:
            record(sidecar)
            assert sidecar.flush(0.05) == {"scripted": 3}
            assert sidecar.stats().exporters["scripted"].pending == 3

    @pytest.mark.parametrize("timeout", [0, -1, math.inf, 1e300])
    def test_any_number_of_seconds_will_do(self, timeout: float) -> None:
        exporter = Scripted()
        sidecar = Sidecar(exporter)
        record(sidecar)
        sidecar.flush(SAFETY)
        assert sidecar.flush(timeout) in ({}, {"scripted": 0})
        sidecar.close(timeout)

    def test_flushes_from_several_threads_all_come_back(self) -> None:
        exporter = Scripted()
        lacking: list[dict[str, int]] = []
        with Sidecar(exporter) as sidecar:

            def work(name: str) -> None:
                for number in range(20):
                    record(sidecar, f"{name}-{number}")
                    lacking.append(sidecar.flush(SAFETY))

            threads = [threading.Thread(target=work, args=(str(index),)) for index in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert lacking == [{}] * 80
        assert len(exporter) == 240


class TestClose:
    def test_close_delivers_what_is_pending_and_twice_is_once(self) -> None:
        exporter = Scripted()
        exporter.interval = SAFETY
        sidecar = Sidecar(exporter)
        record(sidecar, events=500)
        assert sidecar.close(SAFETY) == {}
        assert sidecar.close(SAFETY) == {}
        assert len(exporter) == 502
        assert exporter.calls.count("close") == 1
        assert sidecar.stats().exporters["scripted"].state == "closed"

    def test_close_comes_back_at_its_deadline_and_tells_what_was_given_up(self) -> None:
        hanging, healthy = Hanging(), Scripted()
        sidecar = Sidecar(hanging, healthy)
        record(sidecar)
        assert sidecar.close(0.05) == {"hanging": 3}
        assert not hanging.released.is_set()
        assert healthy.calls[-1] == "close"
        assert sidecar.stats().exporters["hanging"].dropped == {"shutdown": 3}
        hanging.released.set()

    def test_a_sink_that_is_away_is_tried_once_more_and_not_waited_for(self) -> None:
        tries: list[int] = []

        def behave(events: Sequence[StreamEvent]) -> None:
            tries.append(len(events))
            away(events)

        sidecar = Sidecar(Scripted(behave), close_timeout=100 * SAFETY)
        record(sidecar)
        while not tries:
            time.sleep(0.001)
        assert sidecar.close() == {"scripted": 3}
        assert sidecar.stats().exporters["scripted"].dropped == {"shutdown": 3}

    def test_after_close_events_are_counted_as_dropped_and_flush_has_nothing_to_do(self) -> None:
        exporter = Scripted()
        sidecar = Sidecar(exporter)
        run = sidecar.open_run("r", "agent", None)
        run.start()
        sidecar.close()
        run.custom("late")
        run.end("completed")
        assert sidecar.stats().exporters["scripted"].dropped == {"closed": 2}
        assert sidecar.flush() == {}
        assert is_balanced(sidecar.stats().exporters["scripted"])

    def test_close_from_several_threads_closes_once_and_each_returns_when_it_is_done(self) -> None:
        exporter = Scripted(lambda events: time.sleep(0.1))
        sidecar = Sidecar(exporter)
        record(sidecar)
        closed: list[bool] = []

        def close() -> None:
            sidecar.close(SAFETY)
            closed.append(exporter.calls[-1] == "close")

        threads = [threading.Thread(target=close) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert closed == [True] * 5
        assert exporter.calls.count("close") == 1

    def test_close_while_another_thread_records(self) -> None:
        for _ in range(20):
            exporter = Scripted()
            sidecar = Sidecar(exporter)
            thread = threading.Thread(target=record, args=(sidecar, "r", 500))
            thread.start()
            sidecar.close(SAFETY)
            thread.join()
            stats = sidecar.stats().exporters["scripted"]
            assert (stats.seen, stats.pending) == (502, 0)
            assert stats.exported == len(exporter)

    def test_an_async_with_block_closes_without_holding_up_the_loop(self) -> None:
        exporter = Scripted(lambda events: time.sleep(0.15))
        beats = 0

        async def main() -> int:
            async def beat() -> None:
                nonlocal beats
                while True:
                    await asyncio.sleep(0.005)
                    beats += 1

            heart = asyncio.create_task(beat())
            async with Sidecar(exporter) as sidecar:
                record(sidecar)
                before = beats
            heart.cancel()
            return beats - before

        assert asyncio.run(main()) > 0
        assert exporter.calls[-1] == "close"
        assert len(exporter) == 3

    def test_what_is_raised_in_a_with_block_goes_through(self) -> None:
        exporter = Scripted()

        def program() -> None:
            with Sidecar(exporter) as sidecar:
                record(sidecar)
                raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            program()
        assert len(exporter) == 3

    def test_observing_after_close_says_that_nothing_is_recorded(self, caplog: pytest.LogCaptureFixture) -> None:
        forget()  # the message is logged once
        sidecar, agent = Sidecar("memory"), an_agent()
        sidecar.close()
        before = agent.root_capability
        assert sidecar.observe(agent) is agent
        assert agent.root_capability is before
        assert "nothing will be recorded" in caplog.text

    def test_a_closed_sidecar_leaves_no_thread_behind(self) -> None:
        before = set(threading.enumerate())
        sidecar = Sidecar(Scripted(), Scripted())
        record(sidecar)
        sidecar.close(SAFETY)
        for thread in set(threading.enumerate()) - before:
            thread.join(SAFETY)
        assert set(threading.enumerate()) <= before


def holds_the_gil(events: Sequence[StreamEvent]) -> None:
    """One C call of about 50 ms during which no other thread runs: a catastrophic regular expression."""
    re.match(r"(a+)+$", "a" * 20 + "b")


FAULTS: dict[str, Behaviour] = {
    "raises": raising(ValueError("no")),
    "raises SystemExit": raising(SystemExit(3)),
    "raises KeyboardInterrupt": raising(KeyboardInterrupt()),
    "is away": away,
    "is slow": lambda events: time.sleep(0.05),
    "holds the GIL": holds_the_gil,
}


class TestAgentsDoNotNotice:
    @staticmethod
    async def _run(agent: Agent[None, str]) -> Any:
        result = await agent.run("what is twice 21?")
        return result.output, [message.kind for message in result.all_messages()], result.usage

    @staticmethod
    async def _run_stream(agent: Agent[None, str]) -> Any:
        async with agent.run_stream("what is twice 21?") as stream:
            return [text async for text in stream.stream_text(delta=True, debounce_by=None)]

    @staticmethod
    async def _run_stream_events(agent: Agent[None, str]) -> Any:
        async with agent.run_stream_events("what is twice 21?") as events:
            return [type(event) async for event in events]

    @pytest.mark.scenario_08
    @pytest.mark.parametrize("mode", ["_run", "_run_stream", "_run_stream_events"])
    @pytest.mark.parametrize("fault", [*FAULTS, "hangs"])
    def test_whatever_an_exporter_does(self, fault: str, mode: str) -> None:
        play = getattr(self, mode)
        bare = asyncio.run(play(an_agent()))
        exporter = Hanging() if fault == "hangs" else Scripted(FAULTS[fault])
        healthy = Scripted()
        sidecar = Sidecar(exporter, healthy, close_timeout=0.02)
        agent = sidecar.observe(an_agent())
        for _ in range(3):
            assert asyncio.run(play(agent)) == bare
        healthy_name = "scripted-2" if exporter.name == "scripted" else "scripted"
        deadline = time.monotonic() + SAFETY
        while healthy_name in sidecar.flush(0.02) and time.monotonic() < deadline:
            pass
        assert sidecar.stats().exporters[healthy_name].exported == len(healthy)
        assert sum(event.event_type == "agent_end" for event in healthy) == 3
        sidecar.close()
        for stats in sidecar.stats().exporters.values():
            assert is_balanced(stats)
            assert stats.pending == 0
        if isinstance(exporter, Hanging):
            exporter.released.set()

    def test_the_events_go_on_while_an_exporter_hangs_with_a_full_buffer(self) -> None:
        hanging = Hanging()
        sidecar = Sidecar(hanging, buffer_events=10, close_timeout=0)
        agent = sidecar.observe(an_agent())
        for _ in range(5):
            assert asyncio.run(self._run(agent))[0] == "the answer is forty two"
        until(lambda: "overflow" in sidecar.stats().exporters["hanging"].dropped)
        stats = sidecar.stats().exporters["hanging"]
        assert stats.exported == 0
        assert stats.pending <= 20
        sidecar.close()
        hanging.released.set()


class Discarding(Scripted):
    """Exporter that keeps nothing, so that memory growth has other causes."""

    name = "discarding"

    def export(self, events: Sequence[StreamEvent]) -> None:
        return


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def containers(sidecar: Sidecar) -> dict[str, int]:
    """Sizes of all containers of a sidecar, its observer and its pipeline."""
    parts: list[Any] = [
        sidecar,
        sidecar.capability,
        sidecar._pipeline,
        sidecar._pipeline._workers,
        *sidecar._pipeline._subscriptions,
    ]
    return {
        f"{index}.{name}": len(value)
        for index, part in enumerate(parts)
        for name, value in vars(part).items()
        if isinstance(value, dict | list | set)
    }


class TestNothingIsLeftBehind:
    def test_by_runs_that_were_abandoned_to_the_garbage_collector(self) -> None:
        exporter = Scripted()
        with Sidecar(exporter) as sidecar:
            agent = sidecar.observe(an_agent())
            for number in range(3):
                abandon(agent, number)
            gc.collect()
            sidecar.flush(SAFETY)
            threads, files, kept = set(threading.enumerate()), open_files(), containers(sidecar)
            for number in range(200):
                abandon(agent, number)
            gc.collect()
            assert sidecar.flush(SAFETY) == {}
            assert sidecar.stats().runs_in_progress == 0
            assert sidecar.stats().recording_errors == 0
            assert set(threading.enumerate()) == threads
            assert open_files() == files
            assert containers(sidecar) == kept
            ends = exporter.of("agent_end")
            assert [event.data.outcome for event in ends] == ["abandoned"] * 203

    @pytest.mark.scenario_22
    def test_by_a_thousand_runs_one_in_five_abandoned(self) -> None:
        with Sidecar(Discarding()) as sidecar:
            agent = sidecar.observe(Agent(two_pieces()))

            def some(runs: int) -> int:
                """Do `runs` runs; returns the number of allocated memory blocks afterwards."""

                async def complete() -> None:
                    for _ in range(4):
                        await agent.run("go")

                for _ in range(runs // 5):
                    abandon(agent, 0)  # other ways to abandon a run leak in pydantic-ai itself
                    asyncio.run(complete())
                sidecar.flush(SAFETY)
                gc.collect()
                return sys.getallocatedblocks()

            some(200)
            half = some(400)
            grown = some(400) - half
            assert sidecar.stats().runs == 1_000
            assert sidecar.stats().runs_in_progress == 0
            assert grown < 200, f"{grown} blocks in 400 runs"
