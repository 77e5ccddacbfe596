"""Sent messages in the log: complete, and each message once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.capabilities import AbstractCapability, ProcessHistory
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest, SystemPromptPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from sidestream import InMemoryExporter, Sidecar
from sidestream.events import LLMStart
from sidestream.log import SentMessage, load_run, runs, sent_messages
from tests.support.provider_model import Says, call, stream, used

pytestmark = pytest.mark.scenario_32

Messages = list[ModelMessage]


class Seen(Says):
    """Model that keeps the received messages."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(answers)
        self.seen: list[list[tuple[str, list[str]]]] = []

    def _steps(self, messages: Any) -> Any:
        self.seen.append([(message.kind, [part.part_kind for part in message.parts]) for message in messages])
        return super()._steps(messages)


def outline(messages: list[SentMessage]) -> list[tuple[str, list[str]]]:
    return [(message["kind"], [part["part_kind"] for part in message["parts"]]) for message in messages]


def in_log(log: Path) -> list[list[SentMessage]]:
    """Messages of each request in a log, in order of the runs' start."""
    found = []
    for summary in runs(log):
        run = load_run(log, summary.run_id)
        for number in range(1, summary.requests + 1):
            found.append(sent_messages(run, number, log))
    return found


def starts(log: Path) -> list[LLMStart]:
    return [
        located.event.data
        for summary in runs(log)
        for located in load_run(log, summary.run_id).events
        if isinstance(located.event.data, LLMStart)
    ]


def tool_agent(model: Any, **options: Any) -> Agent[None, Any]:
    agent = Agent(model, instructions="be brief", system_prompt="You are a clerk", **options)

    @agent.tool_plain
    def look_up(order: str) -> dict[str, str]:
        """Looks an order up."""
        return {"order": order, "state": "sent"}

    return agent


@pytest.mark.parametrize("streamed", [False, True])
def test_every_request_is_told_as_the_model_got_it(tmp_path: Path, streamed: bool) -> None:
    model = Seen([call("look_up", {"order": "7"}), used(1, 1)], ["It is sent.", used(1, 1)])
    with Sidecar(f"jsonl:{tmp_path}/") as sidecar:
        agent = sidecar.observe(tool_agent(model))

        async def turns() -> None:
            history: Messages = []
            for question in ("where is it?", "and now?"):
                if streamed:
                    async with agent.run_stream_events(question, message_history=history) as events:
                        async for event in events:
                            last: Any = event
                    history = last.result.all_messages()
                else:
                    history = (await agent.run(question, message_history=history)).all_messages()

        asyncio.run(turns())
        assert sidecar.stats().recording_errors == 0
    assert [outline(messages) for messages in in_log(tmp_path)] == model.seen
    last = in_log(tmp_path)[-1]
    assert last[0]["parts"][1] == {"part_kind": "user-prompt", "content": "where is it?"}
    assert last[1]["parts"][0]["args"] == '{"order":"7"}'
    assert last[2]["parts"][0]["content"] == {"order": "7", "state": "sent"}
    first, second, third, _ = starts(tmp_path)
    assert first.tools[0]["name"] == "look_up"
    assert second.tools is None
    assert first.tools_digest == second.tools_digest == third.tools_digest
    assert (first.instructions, second.instructions) == ("You are a clerk\n\nbe brief", None)
    assert [(each.count, each.run_id is None) for each in second.history or []] == [(2, True)]
    assert [(each.count, each.run_id is None) for each in third.history or []] == [(4, False)]


@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "from a database"])
def test_a_conversation_costs_each_turn_once(tmp_path: Path, stored: bool) -> None:
    """Forty turns of about a kilobyte, each run with the whole history."""
    with Sidecar(f"jsonl:{tmp_path}/") as sidecar:
        agent = sidecar.observe(Agent(Says([["a" * 500]])))
        history: Messages = []

        async def turns() -> None:
            nonlocal history
            for turn in range(40):
                if stored:
                    history = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(history))
                history = (await agent.run(f"{turn} {'q' * 500}", message_history=history)).all_messages()

        asyncio.run(turns())
    sizes = [
        sum(len(line) for line in (tmp_path / located.file).read_bytes().splitlines() if run_id.encode() in line)
        for run_id, located in ((run.run_id, load_run(tmp_path, run.run_id).events[0]) for run in runs(tmp_path)[::13])
    ]
    assert len(sizes) == 4
    assert max(sizes[1:]) < sizes[0] * 1.15, sizes
    run = load_run(tmp_path, runs(tmp_path)[-1].run_id)
    assert len(sent_messages(run, 1, tmp_path)) == 79


def test_what_a_history_processor_makes_of_it_is_told(tmp_path: Path) -> None:
    model = Seen([call("look_up", {"order": "7"})], [call("look_up", {"order": "8"})], ["done"])

    def shorten(messages: Messages) -> Messages:
        return [ModelRequest(parts=[UserPromptPart("(before)")]), *messages[1:]] if len(messages) > 3 else messages

    with Sidecar(f"jsonl:{tmp_path}/") as sidecar:
        agent = sidecar.observe(tool_agent(model, capabilities=[ProcessHistory(shorten)]))
        asyncio.run(stream(agent))
        asyncio.run(agent.run("go"))
    assert [outline(messages) for messages in in_log(tmp_path)] == model.seen
    assert [start.rewritten for start in starts(tmp_path)] == [None, None, True] * 2
    assert in_log(tmp_path)[2][0]["parts"] == [{"part_kind": "user-prompt", "content": "(before)"}]


def test_a_hook_that_waits_and_changes_tools_and_model_is_told(tmp_path: Path) -> None:
    class Changes(AbstractCapability[Any]):
        async def before_model_request(self, ctx: Any, request_context: Any) -> Any:
            await asyncio.sleep(0.001)
            if ctx.run_step == 2:
                request_context.model_request_parameters.function_tools = []
                request_context.model = other
            return request_context

    model, other = Says([[call("look_up", {"order": "7"})]]), Says([["done"]], name="gpt-5-mini")
    with Sidecar(f"jsonl:{tmp_path}/") as sidecar:
        agent = sidecar.observe(tool_agent(model, capabilities=[Changes()]))
        asyncio.run(agent.run("go"))
    first, second = starts(tmp_path)
    assert (first.model, second.model) == ("gpt-5", "gpt-5-mini")
    assert (second.tools, second.tools_digest) == (None, None)
    assert first.tools_digest is not None


def test_a_request_that_hangs_is_in_the_log_with_what_it_sent(tmp_path: Path) -> None:
    waiting = asyncio.Event()

    async def hangs(messages: Messages, info: AgentInfo) -> Any:
        waiting.set()
        await asyncio.sleep(3_600)

    async def main(flush: Callable[[], object]) -> None:
        task = asyncio.create_task(agent.run("what is going on?"))
        await waiting.wait()
        await asyncio.to_thread(flush)
        (start,) = starts(tmp_path)
        assert start.sent == [{"kind": "request", "parts": [{"part_kind": "user-prompt", "as_in": "agent_start"}]}]
        task.cancel()
        await asyncio.wait([task])

    with Sidecar(f"jsonl:{tmp_path}/") as sidecar:
        agent = sidecar.observe(Agent(FunctionModel(hangs)))
        asyncio.run(main(sidecar.flush))


def test_media_are_their_type_and_size_and_an_output_has_its_schema(tmp_path: Path) -> None:
    class Answer(BaseModel):
        number: int

    model = TestModel(custom_output_text='{"number": 5}', profile={"supports_json_schema_output": True})
    history = [
        ModelRequest(
            parts=[SystemPromptPart("sys"), UserPromptPart(["see", BinaryContent(b"x" * 9, media_type="image/png")])]
        )
    ]
    with Sidecar(f"jsonl:{tmp_path}/") as sidecar:
        agent = sidecar.observe(Agent(model, output_type=NativeOutput(Answer)))
        asyncio.run(agent.run("go", message_history=history))
    (start,) = starts(tmp_path)
    assert start.output_mode == "native"
    assert start.output_schema["schema"]["properties"] == {"number": {"type": "integer"}}
    text = (tmp_path / load_run(tmp_path, runs(tmp_path)[0].run_id).events[0].file).read_text()
    assert '{"kind":"binary","media_type":"image/png","bytes":9}' in text


def test_without_content_only_what_it_refers_to_is_told(tmp_path: Path) -> None:
    with Sidecar(f"jsonl:{tmp_path}/?content=none") as sidecar:
        agent = sidecar.observe(tool_agent(Says([[call("look_up", {"order": "secret"})], ["done"]])))
        asyncio.run(agent.run("secret"))
    second = starts(tmp_path)[1]
    assert (second.sent, second.tools, second.messages) == (None, None, 3)
    assert "secret" not in "".join(file.read_text() for file in tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize(("content", "stop"), [("full", ["END"]), ("none", None)])
def test_stop_sequences_are_content_of_a_request(content: str, stop: list[str] | None) -> None:
    memory = InMemoryExporter(content=content)
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(Agent(TestModel()))
        agent.run_sync("x", model_settings={"stop_sequences": ["END"], "temperature": 0.5})
    [asked] = [event.data for event in memory.of("llm_start")]
    assert (asked.stop_sequences, asked.settings) == (stop, {"temperature": 0.5})


@pytest.mark.parametrize(
    ("description", "logged"),
    [("greets", "greets"), ("greets {{name}}", None), (None, None), ("x" * 2_000, "x" * 1_000)],
)
def test_a_run_has_the_description_of_its_agent(description: str | None, logged: str | None) -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        sidecar.observe(Agent(TestModel(), description=description)).run_sync("x")
    [began] = [event.data for event in memory.of("agent_start")]
    assert began.description == logged
