"""Endings of a stream: events and exceptions of the consumer, outcomes in the log, and no leftovers."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

import pytest
from pydantic_ai import Agent, CancellationToken
from pydantic_ai.exceptions import RunCancelled, RunTimedOut, UserError

from sidestream import StreamEvent, collect_stream_result, run_stream, stream_text, stream_tool_calls
from tests.support.scripted_model import Call
from tests.support.talking_model import Log, Step, agent_of, eventually, forever, of, run, types_of


class ConsumerError(Exception):
    """Exception raised in the body of the consumer's loop."""


async def until(stream: Any, event_type: str) -> None:
    """Read events up to the first of a type."""
    async for event in stream:
        if event.event_type == event_type:
            return


def stuck_in_model() -> Agent[Any, Any]:
    """Agent whose model writes one delta and then hangs."""
    return agent_of(["word ", forever])


def stuck_in_tool() -> Agent[Any, Any]:
    """Agent whose tool never returns."""
    return agent_of([Call("forever")], tools=[forever])


def endless() -> Agent[Any, Any]:
    """Agent whose model always has another delta ready."""
    return agent_of(["word "] * 100_000)


PLACES = pytest.mark.parametrize(
    ("make", "at"),
    [
        (stuck_in_model, "agent_start"),
        (stuck_in_model, "llm_chunk"),
        (endless, "llm_chunk"),
        (stuck_in_tool, "tool_start"),
    ],
    ids=["at the start", "while the provider is silent", "in mid-stream", "while a tool is at work"],
)


class TestTheConsumerLeaves:
    @PLACES
    def test_by_closing_the_stream(self, make: Callable[[], Any], at: str, log: Log) -> None:
        """Closing the stream raises nothing, and the outcome is `abandoned`."""

        async def main() -> None:
            stream = run_stream(make(), "?", sidecar=log.sidecar)
            await until(stream, at)
            await stream.aclose()
            await stream.aclose()
            assert [event async for event in stream] == []

        run(main())
        assert log.endings == ["abandoned"]

    @PLACES
    def test_by_a_break(self, make: Callable[[], Any], at: str, log: Log) -> None:
        """The event loop closes a stream left by a `break`."""

        async def main() -> None:
            await until(run_stream(make(), "?", sidecar=log.sidecar), at)
            gc.collect()
            await asyncio.sleep(0.05)

        run(main())
        assert log.endings == ["abandoned"]

    @PLACES
    def test_by_an_error_of_its_own(self, make: Callable[[], Any], at: str, log: Log) -> None:
        """The consumer's own error is not an error of the run."""

        async def main() -> None:
            async with aclosing(run_stream(make(), "?", sidecar=log.sidecar)) as stream:
                await until(stream, at)
                raise ConsumerError

        with pytest.raises(ConsumerError):
            run(main())
        assert log.endings == ["abandoned"]
        assert "error" not in types_of(log.events)

    def test_at_the_end_of_the_loop(self, log: Log) -> None:
        """A stream that is still open at the end of the event loop is abandoned or cancelled."""

        async def main() -> None:
            kept.append(run_stream(stuck_in_model(), "?", sidecar=log.sidecar))
            await until(kept[0], "llm_chunk")

        kept: list[Any] = []
        asyncio.run(main())
        assert log.endings in (["abandoned"], ["cancelled"])  # by the loop, which cancels all that is still running

    @pytest.mark.parametrize("function", [stream_text, stream_tool_calls])
    def test_a_sister(self, function: Any, log: Log) -> None:
        """Closing the iterator of a derived function closes its stream."""

        async def main() -> None:
            agent = agent_of(["word ", Call("forever")], tools=[forever])
            stream = function(agent, "?", sidecar=log.sidecar)
            await anext(stream)
            await stream.aclose()

        run(main())
        assert log.endings == ["abandoned"]

    def test_from_another_task(self, log: Log) -> None:
        """`aclose()` while another task waits for an event: that task gets the remaining events, `agent_end` last."""

        async def main() -> list[StreamEvent]:
            stream = run_stream(stuck_in_model(), "?", sidecar=log.sidecar)
            got: list[StreamEvent] = []

            async def consume() -> None:
                async for event in stream:
                    got.append(event)

            task = asyncio.create_task(consume())
            await eventually(lambda: bool(of(got, "llm_chunk")))
            await asyncio.sleep(0.01)
            await stream.aclose()
            await task
            return got

        events = run(main())
        assert events[-1].event_type == "agent_end"
        assert events[-1].data.outcome == "abandoned"
        assert log.endings == ["abandoned"]

    def test_closed_in_another_task_than_it_was_read_in(self, log: Log) -> None:
        """Web servers close a stream in another task; each event may be read in a task of its own."""

        async def main() -> None:
            stream = run_stream(endless(), "?", sidecar=log.sidecar)
            for _ in range(5):
                await asyncio.create_task(asyncio.wait_for(anext(stream), 5))
            await asyncio.create_task(stream.aclose())

        run(main())
        assert log.endings == ["abandoned"]


class TestTheConsumerIsCancelled:
    @PLACES
    def test_while_it_waits(self, make: Callable[[], Any], at: str, log: Log) -> None:
        """`CancelledError` propagates with its message, and the outcome is `cancelled`."""

        async def main() -> None:
            stream = run_stream(make(), "?", sidecar=log.sidecar)

            async def consume() -> None:
                async for _ in stream:
                    pass

            await until(stream, at)
            task = asyncio.create_task(consume())
            await asyncio.sleep(0.02)
            task.cancel("enough")
            with pytest.raises(asyncio.CancelledError, match="enough"):
                await task

        run(main())
        assert log.endings == ["cancelled"]

    @PLACES
    def test_by_asyncio_timeout(self, make: Callable[[], Any], at: str, log: Log) -> None:
        """The consumer gets `TimeoutError`, and the run has ended before, as timed out."""

        async def main() -> None:
            async def consume() -> None:
                async with asyncio.timeout(0.1):
                    async for _ in run_stream(make(), "?", sidecar=log.sidecar):
                        pass

            with pytest.raises(TimeoutError):
                await consume()
            assert log.sidecar.stats().runs_in_progress == 0

        run(main())
        assert log.endings == ["timed_out"]

    def test_before_the_first_event(self, log: Log) -> None:
        """At most one run has begun, and it has ended."""

        async def main() -> None:
            task = asyncio.create_task(collect_stream_result(stuck_in_model(), "?", sidecar=log.sidecar))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run(main())
        assert len(log.endings) <= 1

    def test_again_and_again(self, log: Log) -> None:
        """Repeated cancellation, as in an anyio task group, leaves the consumer no time to clean up."""
        import anyio

        async def main() -> None:
            async def consume() -> None:
                async with aclosing(run_stream(stuck_in_tool(), "?", sidecar=log.sidecar)) as stream:
                    async for event in stream:
                        if event.event_type == "tool_start":
                            group.cancel_scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(consume)
            await asyncio.sleep(0.05)

        run(main())
        assert log.endings == ["cancelled"]


class TestTheRunFails:
    @pytest.mark.parametrize(
        ("answers", "where"),
        [
            ([[ValueError("the model's")]], "model"),
            ([["so ", "far", ValueError("the model's")]], "model"),
            ([["one ", Call("noop")], [ValueError("the model's")]], "model"),
        ],
        ids=["before the first delta", "in mid-stream", "in the second request"],
    )
    def test_in_the_model(self, answers: list[list[Step]], where: str, log: Log) -> None:
        """The consumer gets an `error` event, `agent_end`, and then the same exception object."""

        def noop() -> str:
            return ""

        self._fails(agent_of(*answers, tools=[noop]), answers[-1][-1], where, log)

    def test_in_a_tool(self, log: Log) -> None:
        """The tool's outcome is `failed`."""
        error = RuntimeError("the tool's")

        def breaks() -> str:
            raise error

        events = self._fails(agent_of([Call("breaks")], tools=[breaks]), error, "tool", log)
        assert of(events, "tool_end")[0].outcome == "failed"

    def test_in_an_output_validator(self, log: Log) -> None:
        """The `where` of the error event is `output`."""
        error = LookupError("the validator's")
        agent = agent_of(["no"])

        @agent.output_validator
        def validate(output: str) -> str:
            raise error

        self._fails(agent, error, "output", log)

    def _fails(self, agent: Agent[Any, Any], error: Any, where: str, log: Log) -> list[StreamEvent]:
        got: list[StreamEvent] = []

        async def main() -> None:
            async for event in run_stream(agent, "?", sidecar=log.sidecar):
                got.append(event)

        with pytest.raises(type(error)) as raised:
            run(main())
        assert raised.value is error
        assert [data.where for data in of(got, "error")] == [where]
        assert of(got, "error")[0]["error"] == str(error)
        assert got[-1].data["success"] is False
        assert got[-1].data.outcome == "error"
        assert got[-1].data.exception_type == of(got, "error")[0]["exception_type"]
        assert log.endings == ["error"]
        return got

    def test_before_it_has_begun(self, log: Log) -> None:
        """A run that cannot begin, for instance without a model, has a start, an error and an end."""
        got: list[StreamEvent] = []

        async def main() -> None:
            async for event in run_stream(Agent(name="lost"), "?", sidecar=log.sidecar):
                got.append(event)

        with pytest.raises(UserError):
            run(main())
        assert types_of(got) == ["agent_start", "error", "agent_end"]
        assert types_of(log.events) == ["agent_start", "error", "agent_end"]

    def test_by_its_own_timeout(self, log: Log) -> None:
        """The run's `timeout` raises pydantic-ai's `RunTimedOut`, and the outcome is `timed_out`."""
        got: list[StreamEvent] = []

        async def main() -> None:
            async for event in run_stream(stuck_in_model(), "?", timeout=0.1, sidecar=log.sidecar):
                got.append(event)

        with pytest.raises(RunTimedOut):
            run(main())
        assert got[-1].data.outcome == "timed_out"
        assert log.endings == ["timed_out"]

    def test_by_its_cancellation_token(self, log: Log) -> None:
        """A cancellation token raises pydantic-ai's `RunCancelled`, and the outcome is `cancelled`."""
        got: list[StreamEvent] = []

        async def main() -> None:
            token = CancellationToken()
            async for event in run_stream(stuck_in_model(), "?", cancellation_token=token, sidecar=log.sidecar):
                got.append(event)
                if event.event_type == "llm_chunk":
                    token.cancel()

        with pytest.raises(RunCancelled):
            run(main())
        assert got[-1].data.outcome == "cancelled"
        assert log.endings == ["cancelled"]

    @pytest.mark.parametrize("function", [stream_text, stream_tool_calls])
    def test_seen_through_a_sister(self, function: Any) -> None:
        """The same exception object is raised, after all earlier items."""
        error = ValueError("the model's")

        async def main() -> list[Any]:
            got: list[Any] = []
            with suppress(ValueError):
                async for item in function(agent_of(["a", error]), "?"):
                    got.append(item)
            return got

        assert run(main()) == (["a"] if function is stream_text else [])


class TestManyAtOnce:
    @pytest.mark.parametrize("count", [2, 100])
    def test_of_one_agent(self, count: int, log: Log) -> None:
        """Each stream yields the events of its own run only."""

        async def tool(ctx_number: int) -> int:
            await asyncio.sleep(0)
            return ctx_number

        async def one(agent: Agent[Any, Any], number: int) -> None:
            result, events = await collect_stream_result(agent, f"number {number}", sidecar=log.sidecar)
            assert events[0].data.prompt == f"number {number}"
            assert [event.seq for event in events] == list(range(len(events)))
            assert len({event.run_id for event in events}) == 1
            assert result.output == "that is all"
            assert len(of(events, "tool_end")) == 1

        async def main() -> None:
            agent = agent_of(["a ", Call("tool", '{"ctx_number": 1}')], ["that ", "is ", "all"], tools=[tool])
            before = list(agent.root_capability.capabilities)
            for done in asyncio.as_completed([one(agent, number) for number in range(count)]):
                await done
            assert agent.root_capability.capabilities == before

        run(main())
        assert log.endings == ["completed"] * count
        assert all(data.parent_run_id is None for data in of(log.events, "agent_start"))

    def test_streams_themselves_in_as_completed(self) -> None:
        """Awaiting a stream returns the stream."""

        async def main() -> list[str]:
            agent = agent_of(["a", "b"])
            texts = []
            for stream in asyncio.as_completed([run_stream(agent, "?") for _ in range(3)]):
                texts += [event.data["text"] async for event in await stream if event.event_type == "llm_chunk"]
            return texts

        assert run(main()) == ["a", "b"] * 3

    def test_some_of_which_are_left(self, log: Log) -> None:
        """A consumer that leaves does not affect the others."""

        async def one(agent: Agent[Any, Any], number: int) -> int:
            count = 0
            async with aclosing(stream_text(agent, "?", sidecar=log.sidecar)) as stream:
                async for _ in stream:
                    count += 1
                    if number % 3 == 0 and count == 2:
                        break
            return count

        async def main() -> list[int]:
            agent = agent_of(["a "] * 10)
            return await asyncio.gather(*(one(agent, number) for number in range(12)))

        assert run(main()) == [2, 10, 10] * 4
        assert sorted(log.endings) == ["abandoned"] * 4 + ["completed"] * 8


def test_nothing_is_kept_of_streams_that_are_over() -> None:
    """The run's task, its events and its agent are freed."""
    import weakref

    from sidestream.sources.pydantic_ai import attach
    from sidestream.streaming import session

    seen: list[weakref.ref[Any]] = []

    async def main() -> None:
        for ending in (_reads_all, _breaks, _fails):
            agent = agent_of(["a", "b", *([ValueError()] if ending is _fails else [])])
            seen.append(weakref.ref(agent))
            await ending(agent)
            del agent
        for _ in range(20):
            await asyncio.sleep(0)

    run(main())
    gc.collect()
    assert [ref() for ref in seen] == [None] * 3
    assert not session._run_tasks
    assert not attach._temporary


async def _reads_all(agent: Agent[Any, Any]) -> None:
    async for _ in run_stream(agent, "?"):
        pass


async def _breaks(agent: Agent[Any, Any]) -> None:
    await until(run_stream(agent, "?"), "llm_chunk")


async def _fails(agent: Agent[Any, Any]) -> None:
    with suppress(ValueError):
        await _reads_all(agent)
