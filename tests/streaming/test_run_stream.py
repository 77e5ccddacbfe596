"""Events of the five streaming functions, and their times."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.usage import UsageLimits

import sidestream
from sidestream import (
    ConfigurationError,
    StreamEvent,
    StreamEventType,
    collect_stream_result,
    decode_line,
    encode_line,
    run_stream,
    run_stream_with_tools,
    stream_text,
    stream_tool_calls,
)
from tests.support.scripted_model import Call, Think
from tests.support.talking_model import Log, Step, agent_of, eventually, forever, of, run, texts_of, types_of


async def look_up(order: int) -> dict[str, Any]:
    """Tool that looks up an order."""
    return {"order": order, "status": "sent"}


def clerk(**settings: Any) -> Agent[Any, Any]:
    """Agent that thinks, writes text, calls a tool, and answers."""
    first: list[Step] = [Think("which order?"), "Let ", "me see. ", Call("look_up", '{"order": 7}', pieces=3)]
    return agent_of(first, ["It is ", "on its ", "way."], tools=[look_up], **settings)


def told(*args: Any, function: Any = run_stream, **options: Any) -> list[Any]:
    """All events of a stream, or all items that `function` yields."""

    return run(_all(function(*args, **options)))


async def _all(stream: Any) -> list[Any]:
    return [event async for event in stream]


class TestRunStream:
    def test_tells_the_whole_run_in_order(self) -> None:
        """The stream goes from `agent_start` to `agent_end`, with tools, progress, and one event per text delta."""
        request = ["llm_start", "llm_chunk", "llm_chunk"]
        assert types_of(told(clerk(), "?")) == [
            "agent_start",
            *request,
            "llm_end",
            "progress",
            "tool_start",
            "tool_end",
            *request,
            "llm_chunk",
            "llm_end",
            "progress",
            "final_result",
            "agent_end",
        ]

    def test_numbers_the_events_without_a_gap(self) -> None:
        """Sequence numbers have no gap, also if some kinds are left out."""
        for options in ({}, {"emit_progress": False}, {"kinds": ()}, {"kinds": ("thinking",)}):
            events = told(clerk(), "?", **options)
            assert [event.seq for event in events] == list(range(len(events)))

    def test_tells_text_alone_unless_asked_for_more(self) -> None:
        """`print(event.data["text"])` for each chunk prints the answer and nothing else."""
        events = told(clerk(), "?")
        assert [e.data["text"] for e in events if e.event_type == StreamEventType.LLM_CHUNK] == [
            "Let ",
            "me see. ",
            "It is ",
            "on its ",
            "way.",
        ]

    def test_tells_thinking_if_asked(self) -> None:
        """The parameter `kinds` selects thinking."""
        assert texts_of(told(clerk(), "?", kinds=("thinking",)), "thinking") == ["which order?"]

    def test_tells_arguments_result_and_duration_of_a_tool(self) -> None:
        """Tool events: `tool_start` has the arguments, `tool_end` the result and the duration."""
        events = told(clerk(), "?")
        assert of(events, "tool_start")[0]["args"] == {"order": 7}
        end = of(events, "tool_end")[0]
        assert end["result"] == {"order": 7, "status": "sent"}
        assert end["duration_seconds"] >= 0
        assert end["outcome"] == "ok"

    def test_tells_a_retry(self) -> None:
        """A tool that raises `ModelRetry` ends with the outcome `retry`."""
        tries: list[int] = []

        def flaky() -> str:
            tries.append(1)
            if len(tries) == 1:
                raise ModelRetry("again")
            return "fine"

        events = told(agent_of([Call("flaky")], [Call("flaky", id="call-2")], ["ok"], tools=[flaky]), "?")
        assert [data.outcome for data in of(events, "tool_end")] == ["retry", "ok"]
        assert len(of(events, "retry")) == 1

    def test_names_the_agent_in_payload_and_envelope(self) -> None:
        """The agent's name is in `agent_start` and `agent_end`."""
        events = told(clerk(), "?")
        assert (events[0].data["agent_name"], events[-1].data["agent_name"]) == ("clerk", "clerk")
        assert {event.agent_name for event in events} == {"clerk"}

    def test_names_an_agent_without_a_name_after_the_variable_of_the_caller(self) -> None:
        """The name is inferred as by pydantic-ai, for each of the functions."""
        functions: list[Callable[..., AsyncIterator[Any]]] = [
            run_stream,
            run_stream_with_tools,
            stream_text,
            stream_tool_calls,
        ]

        async def main() -> list[str | None]:
            names = []
            for function in functions:
                support = clerk(name=None)
                async for _ in function(support, "?"):
                    pass
                names.append(support.name)
            helpdesk = clerk(name=None)
            await collect_stream_result(helpdesk, "?")
            return [*names, helpdesk.name]

        assert run(main()) == ["support"] * 4 + ["helpdesk"]

    def test_gives_the_events_of_the_log_s_contract(self) -> None:
        """Each event can be encoded as a line of a log, and decoded again."""
        for event in told(clerk(), "?", function=run_stream_with_tools):
            assert decode_line(encode_line(event)).event_type == event.event_type

    def test_has_the_run_s_result_when_it_is_over(self) -> None:
        """The result includes the history for the next run."""

        async def main() -> None:
            stream = run_stream(clerk(), "?")
            async with aclosing(stream):
                async for event in stream:
                    assert stream.result is None or event.event_type == "agent_end"
            assert stream.result is not None
            assert stream.result.output == "It is on its way."
            assert len(stream.result.new_messages()) == 4

        run(main())

    def test_hands_its_options_on_to_the_run(self) -> None:
        """Options of the run, such as `output_type` and `usage_limits`, take effect."""
        agent = agent_of(["7"])
        assert of(told(agent, "?", output_type=str, usage_limits=UsageLimits(request_limit=3)), "final_result")
        with pytest.raises(UsageLimitExceeded):
            told(agent, "?", usage_limits=UsageLimits(request_limit=0))

    def test_hands_deps_to_the_agent(self) -> None:
        """The third argument is `deps`."""
        seen: list[Any] = []
        agent = agent_of(["ok"], deps_type=int)

        @agent.instructions
        def see(ctx: RunContext[int]) -> str:
            seen.append(ctx.deps)
            return ""

        told(agent, "?", 42)
        assert seen == [42]

    def test_takes_up_a_history_without_telling_it_again(self) -> None:
        """Texts and tool calls of the history belong to an earlier run, and cause no events."""

        async def main() -> list[StreamEvent]:
            agent = clerk()
            result, _ = await collect_stream_result(agent, "?")
            return [event async for event in run_stream_with_tools(agent, "more", None, result.all_messages())]

        events = run(main())
        assert texts_of(events) == ["It is ", "on its ", "way."]
        assert "tool_start" not in types_of(events)

    def test_says_what_is_no_agent(self) -> None:
        """The error is raised by the call, not by the iteration."""
        with pytest.raises(ConfigurationError, match="'str': it is not"):
            run_stream("clerk", "?")  # type: ignore[arg-type]

    @pytest.mark.parametrize("kinds", ["text", ("words",)])
    def test_says_which_kinds_there_are(self, kinds: Any) -> None:
        """An invalid `kinds` raises at once."""
        with pytest.raises(ConfigurationError, match="collection of text, thinking, tool_call, other"):
            run_stream(clerk(), "?", kinds=kinds)

    def test_starts_no_run_before_it_is_iterated(self) -> None:
        """A stream that is created and dropped, or closed, sends no request."""

        async def main() -> None:
            async def never() -> None:
                raise AssertionError

            await run_stream(agent_of([never]), "?").aclose()
            run_stream(agent_of([never]), "?")

        run(main())


class TestAsItHappens:
    def test_a_delta_comes_before_the_next_one_is_made(self) -> None:
        """Each delta arrives before the model makes the next one."""
        seen: list[str] = []

        async def main() -> None:
            async def first_is_seen() -> None:
                await eventually(lambda: seen == ["one "])

            async for text in stream_text(agent_of(["one ", first_is_seen, "two"]), "?"):
                seen.append(text)

        run(main())
        assert seen == ["one ", "two"]

    def test_a_tool_start_comes_while_the_tool_is_at_work(self) -> None:
        """The tool waits here until the consumer has its `tool_start`."""

        async def main() -> list[str]:
            told = asyncio.Event()

            async def waits() -> str:
                async with asyncio.timeout(5):
                    await told.wait()
                return "done"

            calls = []
            async for event in run_stream(agent_of([Call("waits")], ["ok"], tools=[waits]), "?"):
                calls.append(event.event_type.value)
                if event.event_type == StreamEventType.TOOL_START:
                    told.set()
            return calls

        assert "tool_end" in run(main())

    def test_a_slow_consumer_slows_the_model(self) -> None:
        """The model is at most a few deltas ahead of the consumer."""

        async def main() -> int:
            made, taken, ahead = 0, 0, 0

            async def make() -> None:
                nonlocal made
                made += 1

            steps: list[Any] = [step for i in range(200) for step in (make, f"{i} ")]
            async for _ in stream_text(agent_of(steps), "?"):
                taken += 1
                for _ in range(20):
                    await asyncio.sleep(0)
                ahead = max(ahead, made - taken)
            return ahead

        assert run(main()) <= 3

    def test_two_tools_at_once_are_told_as_they_end(self) -> None:
        """Both starts come first, then the end of the quicker tool."""

        async def main() -> list[tuple[str, Any]]:
            quick_is_done = asyncio.Event()

            async def slow() -> str:
                await quick_is_done.wait()
                return "slow"

            async def quick() -> str:
                quick_is_done.set()
                return "quick"

            agent = agent_of([Call("slow", id="1"), Call("quick", id="2")], ["ok"], tools=[slow, quick])
            return [(name, result) async for name, _, result in stream_tool_calls(agent, "?")]

        assert run(main()) == [("slow", None), ("quick", None), ("quick", "quick"), ("slow", "slow")]


class TestSisters:
    def test_with_tools_tells_thinking_and_tool_calls_being_written(self) -> None:
        """One event for each delta of any kind."""
        events = told(clerk(), "?", function=run_stream_with_tools)
        assert texts_of(events, "thinking") == ["which order?"]
        assert texts_of(events, "tool_call") == ['{"or', 'der"', ": 7}"]
        assert {e.data.tool_name for e in events if e.event_type == "llm_chunk" and e.data.kind == "tool_call"} == {
            "look_up"
        }

    @pytest.mark.parametrize("function", [run_stream, run_stream_with_tools])
    def test_progress_can_be_left_out(self, function: Any) -> None:
        """`emit_progress=False`."""
        assert "progress" not in types_of(told(clerk(), "?", function=function, emit_progress=False))

    def test_stream_text_yields_the_text(self) -> None:
        """`stream_text` yields text only, no thinking and no tool calls."""
        assert "".join(told(clerk(), "?", function=stream_text)) == "Let me see. It is on its way."

    def test_stream_tool_calls_yields_start_and_end(self) -> None:
        """`(name, args, None)`, then `(name, args, result)`."""
        assert told(clerk(), "?", function=stream_tool_calls) == [
            ("look_up", {"order": 7}, None),
            ("look_up", {"order": 7}, {"order": 7, "status": "sent"}),
        ]

    def test_stream_tool_calls_tells_an_end_without_a_result_from_a_start(self) -> None:
        """A tool that returns None, and one that fails, end with a result that is not None."""

        def nothing() -> None:
            pass

        def refuses() -> None:
            raise ModelRetry("not like this")

        agent = agent_of([Call("nothing", id="1"), Call("refuses", id="2")], ["ok"], tools=[nothing, refuses])
        ends = {name: result for name, _, result in told(agent, "?", function=stream_tool_calls) if result is not None}
        assert ends["nothing"] == "None"
        assert "not like this" in ends["refuses"]

    def test_collect_calls_back_with_each_event(self) -> None:
        """Callbacks get the events in order, and the same events are returned."""
        seen: list[Any] = []
        _, events = run(collect_stream_result(clerk(), "?", on_event=seen.append))
        assert seen == events

    def test_an_async_callback_is_awaited(self) -> None:
        """A callback that returns a coroutine is awaited."""
        seen: list[Any] = []

        async def on_event(event: StreamEvent) -> None:
            await asyncio.sleep(0)
            seen.append(event)

        _, events = run(collect_stream_result(clerk(), "?", on_event=on_event))
        assert seen == events

    def test_what_the_callback_raises_reaches_the_caller(self, log: Log) -> None:
        """The exception of a callback ends the run, as abandoned."""

        def on_event(event: StreamEvent) -> None:
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            run(collect_stream_result(agent_of(["a", forever]), "?", on_event=on_event, sidecar=log.sidecar))
        assert log.endings == ["abandoned"]

    @pytest.mark.parametrize(
        "function", [run_stream, run_stream_with_tools, stream_text, stream_tool_calls, collect_stream_result]
    )
    def test_all_take_the_same_first_arguments(self, function: Any) -> None:
        """`agent, prompt, deps, message_history`, and a sidecar."""
        names = list(inspect.signature(function).parameters)
        assert names[:4] == ["agent", "prompt", "deps", "message_history"]
        assert "sidecar" in names
        assert function.__name__ in sidestream.__all__


DELTAS = st.lists(st.text(max_size=8), max_size=12)


class TestProperties:
    @settings(max_examples=40, deadline=None)
    @given(answers=st.lists(DELTAS, min_size=1, max_size=3), thinking=st.text(min_size=1, max_size=5))
    def test_the_chunks_joined_are_the_model_s_words(self, answers: list[list[str]], thinking: str) -> None:
        """Deltas of any kind are neither lost, doubled, cut nor reordered, and numbered without a gap."""

        async def again() -> str:
            return "go on"

        calls: list[list[Step]] = [
            [*deltas, Think(thinking), Call("again", id=f"c{i}")] for i, deltas in enumerate(answers)
        ]
        agent = agent_of(*calls, ["the end"], tools=[again])
        events = asyncio.run(_all(run_stream_with_tools(agent, "?")))
        assert "".join(texts_of(events)) == "".join(map("".join, answers)) + "the end"
        assert texts_of(events, "thinking") == [thinking] * len(answers)
        assert [event.seq for event in events] == list(range(len(events)))
        assert len({event.run_id for event in events}) == 1
        for deltas in answers:
            assert all(delta in texts_of(events) for delta in deltas if delta and deltas[0])
