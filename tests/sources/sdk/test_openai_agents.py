"""The real OpenAI Agents SDK with a local provider: runs, tools, hand-offs, and the callers' view."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import sidestream
from sidestream import InMemoryExporter
from sidestream.testing.adapters import outline
from tests.support.provider_server import Exchange, replay
from tests.support.sdk_answers import streamed, whole
from tests.support.sdk_observed import EVENTS, JSON, Installed

agents = pytest.importorskip("agents")
agents.set_tracing_disabled(True)


def output(kind: str, **more: Any) -> dict[str, Any]:
    return {"id": f"{kind}_1", "type": kind, "status": "completed", **more}


def said(text: str) -> dict[str, Any]:
    return output("message", role="assistant", content=[{"type": "output_text", "text": text, "annotations": []}])


def called(name: str, arguments: str = "{}") -> dict[str, Any]:
    return output("function_call", call_id=f"call_{name}", name=name, arguments=arguments)


def response(*outputs: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(whole("responses"))
    return {**made, "output": list(outputs)}


def exchange(stream: bool, *outputs: dict[str, Any]) -> Exchange:
    """One answer of the Responses API, streamed or whole."""
    answer = response(*outputs)
    if not stream:
        return Exchange("POST", "http://x/", None, 200, JSON, json.dumps(answer).encode())
    begun = {**answer, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(outputs):
        events.append({"type": "response.output_item.added", "output_index": index, "item": item})
        if item["type"] == "message":
            place = {"output_index": index, "content_index": 0, "item_id": item["id"], "logprobs": []}
            events.append({"type": "response.output_text.delta", "delta": item["content"][0]["text"], **place})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": answer})
    numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
    return Exchange("POST", "http://x/", None, 200, EVENTS, streamed("responses", numbered))


@contextmanager
def model(stream: bool, *answers: tuple[dict[str, Any], ...]) -> Iterator[Any]:
    """Model of the Agents SDK with scripted answers."""
    import openai

    with replay([exchange(stream, *each) for each in answers]) as server:
        client = openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0)
        yield agents.OpenAIResponsesModel("gpt-5-mini", client)


@agents.function_tool
def look(at: str) -> str:
    """Look."""
    return f"it is at {at}"


async def run(agent: Any, stream: bool, **options: Any) -> list[Any]:
    """View of a run's caller."""
    if not stream:
        result = await agents.Runner.run(agent, "Where?", **options)
        return [type(result), result.final_output, [type(item) for item in result.new_items], result.last_agent.name]
    streaming = agents.Runner.run_streamed(agent, "Where?", **options)
    seen: list[Any] = [type(streaming), type(streaming.stream_events())]
    async for event in streaming.stream_events():
        seen.append((type(event), event.type, type(getattr(event, "data", getattr(event, "item", None)))))
    return [*seen, streaming.final_output, streaming.last_agent.name]


def both(make: Any, stream: bool, **options: Any) -> tuple[list[Any], Installed]:
    """View of a caller, equal bare and observed; and the log."""
    views = []
    for observed in (False, True):
        memory = InMemoryExporter()
        if observed:
            installed = Installed(sidestream.install(memory), memory)
        with make() as agent:
            try:
                views.append(asyncio.run(run(agent, stream, **options)))
            except Exception as error:
                views.append([type(error), str(error)])
    installed.runs()
    sidestream.uninstall()
    assert views[0] == views[1]
    return views[0], installed


STREAMED = pytest.mark.parametrize("stream", [False, True])


@STREAMED
def test_a_run_with_a_tool(stream: bool) -> None:
    @contextmanager
    def make() -> Iterator[Any]:
        with model(stream, (called("look", '{"at": "A-1"}'),), (said("at A-1"),)) as each:
            yield agents.Agent(name="finder", model=each, tools=[look], instructions="Find it.")

    view, installed = both(make, stream)
    assert "at A-1" in view
    [told] = installed.outlines()
    assert told == [
        ("request", "gpt-5-mini"),
        ("tool_call", "look", '{"at": "A-1"}' if not stream else ""),
        ("request ends", "ok", "tool_call", (1000, 20)),
        ("tool", "look", '{"at": "A-1"}'),
        ("tool ends", "look", "ok"),
        ("request", "gpt-5-mini"),
        ("text", "at A-1"),
        ("request ends", "ok", "stop", (1000, 20)),
        ("result", "at A-1"),
        ("run ends", "completed"),
    ]
    [events] = installed.runs()
    assert (events[0].agent_name, events[0].data.prompt, events[1].data.instructions) == (
        "finder",
        "Where?",
        "Find it.",
    )
    assert events[-1].data.usage.cache_read_tokens == 800


@STREAMED
def test_a_hand_off_is_a_run_below(stream: bool) -> None:
    @contextmanager
    def make() -> Iterator[Any]:
        with model(stream, (called("transfer_to_expert"),), (said("at A-1"),)) as each:
            expert = agents.Agent(name="expert", model=each)
            yield agents.Agent(name="desk", model=each, handoffs=[expert])

    _, installed = both(make, stream)
    desk, expert = installed.runs()
    assert (desk[0].agent_name, expert[0].agent_name) == ("desk", "expert")
    assert expert[0].data.parent_run_id == desk[0].run_id
    assert [row[0] for row in installed.outlines()[1]] == ["request", "text", "request ends", "result", "run ends"]
    end = desk[-1].data
    assert (end.outcome, end.sub_agents, end.usage.input_tokens, end.usage_with_children.input_tokens) == (
        "completed",
        1,
        1000,
        2000,
    )


@STREAMED
def test_an_agent_as_a_tool_is_a_run_below_the_tools_call(stream: bool) -> None:
    @contextmanager
    def make() -> Iterator[Any]:
        with model(False, (said("at A-1"),)) as inner:
            expert = agents.Agent(name="expert", model=inner).as_tool("ask_expert", "Ask.")
            with model(stream, (called("ask_expert", '{"input": "?"}'),), (said("done"),)) as each:
                yield agents.Agent(name="desk", model=each, tools=[expert])

    _, installed = both(make, stream)
    desk, expert = installed.runs()
    start = expert[0].data
    assert (expert[0].agent_name, start.parent_run_id, start.parent_tool_call_id) == (
        "expert",
        desk[0].run_id,
        "call_ask_expert",
    )
    assert desk[-1].data.usage_with_children.input_tokens == 3000


@STREAMED
def test_a_run_that_fails(stream: bool) -> None:
    @contextmanager
    def make() -> Iterator[Any]:
        with model(stream, (called("look", '{"at": "A-1"}'),)) as each:
            yield agents.Agent(name="finder", model=each, tools=[look])

    view, installed = both(make, stream, max_turns=1)
    assert view[0] is agents.MaxTurnsExceeded
    [told] = installed.outlines()
    assert told[-2:] == [("error", "run", "agents.exceptions.MaxTurnsExceeded"), ("run ends", "error")]


def test_hooks_of_the_callers_are_called_as_ever() -> None:
    seen: list[str] = []

    class Theirs(agents.RunHooks):  # type: ignore[name-defined, misc]
        async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
            seen.append(f"start {tool.name}")

        async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
            seen.append("llm")

        async def on_agent_end(self, context: Any, agent: Any, output: Any) -> None:
            seen.append(f"end {output}")

    @contextmanager
    def make() -> Iterator[Any]:
        with model(False, (called("look", '{"at": "A-1"}'),), (said("at A-1"),)) as each:
            yield agents.Agent(name="finder", model=each, tools=[look])

    both(make, False, hooks=Theirs())
    assert seen == ["llm", "start look", "llm", "end at A-1"] * 2


def test_a_model_that_no_sdk_tells_is_told_by_the_hooks(installed: Installed) -> None:
    answers = [[called("look", '{"at": "A-1"}')], [said("at A-1")]]

    class Own(agents.Model):  # type: ignore[name-defined, misc]
        model = "own-1"

        async def get_response(self, *args: Any, **kwargs: Any) -> Any:
            from agents.items import ModelResponse
            from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage

            made: list[Any] = [
                (ResponseOutputMessage if each["type"] == "message" else ResponseFunctionToolCall).model_validate(each)
                for each in answers.pop(0)
            ]
            usage = agents.Usage(requests=1, input_tokens=7, output_tokens=3, total_tokens=10)
            return ModelResponse(output=made, usage=usage, response_id="r")

        def stream_response(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

    asyncio.run(run(agents.Agent(name="finder", model=Own(), tools=[look]), False))
    [told] = installed.outlines()
    assert told[:3] == [
        ("request", "own-1"),
        ("tool_call", "look", '{"at": "A-1"}'),
        ("request ends", "ok", "tool_call", (7, 3)),
    ]
    assert [row[0] for row in told].count("request") == 2


def test_the_events_of_a_streamed_run_may_be_tapped() -> None:
    """Tapped without `install()`: one run, with hand-offs as events."""
    memory = InMemoryExporter()

    async def main(sidecar: sidestream.Sidecar) -> None:
        with model(True, (called("look", '{"at": "A-1"}'),), (called("transfer_to_expert"),), (said("done"),)) as each:
            expert = agents.Agent(name="expert", model=each)
            desk = agents.Agent(name="desk", model=each, tools=[look], handoffs=[expert])
            result = agents.Runner.run_streamed(desk, "Where?")
            async for _ in sidecar.tap(result.stream_events(), agent_name="desk"):
                pass

    with sidestream.Sidecar(memory) as sidecar:
        asyncio.run(main(sidecar))
        assert sidecar.stats().recording_errors == 0
    used = ("request ends", "ok", "tool_call", (1000, 20))
    assert outline(memory.events) == [
        ("request", "gpt-5-mini"),
        ("tool_call", "look", ""),
        used,
        ("tool", "look", '{"at": "A-1"}'),
        ("tool ends", "look", "ok"),
        ("request", "gpt-5-mini"),
        ("tool_call", "transfer_to_expert", ""),
        used,
        ("custom", "handoff"),
        ("request", "gpt-5-mini"),
        ("text", "done"),
        ("request ends", "ok", "stop", (1000, 20)),
        ("run ends", "completed"),
    ]


@STREAMED
def test_a_limit_of_time_around_a_run(installed: Installed, stream: bool) -> None:
    """Of a streamed run it interrupts whoever reads the events; the run is a task of its own."""

    async def main() -> None:
        async with asyncio.timeout(None) as limit:

            @agents.function_tool
            async def wait() -> str:
                """Wait."""
                limit.reschedule(0)
                await asyncio.Event().wait()
                return ""

            with model(stream, (called("wait"),)) as each:
                await run(agents.Agent(name="desk", model=each, tools=[wait]), stream)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert [rows[-1] for rows in installed.outlines()] == [("run ends", "timed_out")]
