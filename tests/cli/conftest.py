"""Log of real runs that the tests of the commands read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, AgentRunResultEvent, ModelRetry, RunContext
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

from sidestream import Sidecar
from sidestream.events import AnyEvent, decode_line


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Log of six runs: one with a sub-agent (a run too), one with a retry, one failed, one abandoned, and a last."""
    folder = tmp_path_factory.mktemp("log") / "runs"
    asyncio.run(_play(folder))
    return folder


@pytest.fixture(scope="session")
def events(log: Path) -> list[AnyEvent]:
    """Events of the log."""
    return [decode_line(line) for file in sorted(log.iterdir()) for line in file.read_bytes().splitlines()]


async def _play(folder: Path) -> None:
    with Sidecar(f"jsonl:{folder}", tags={"env": "test"}) as sidecar:
        support, billing = sidecar.observe(_support()), sidecar.observe(_billing())
        with sidecar.tags(tenant="acme"):
            await _ask(support, "Where is order 4711, and what of the refund?", billing)
        await _ask(support, "Where is order PP-12?", billing)
        with pytest.raises(RuntimeError):
            await _ask(support, "Please fail", billing)
        async with support.run_stream_events("Tell me a long story", deps=billing) as stream:
            async for event in stream:
                if type(event).__name__ == "PartDeltaEvent":
                    break
        await _ask(support, "Thank you!", billing)


async def _ask(agent: Agent[Any, str], question: str, deps: Any = None) -> str:
    """Streamed answer to `question`."""
    async with agent.run_stream_events(question, deps=deps) as stream:
        async for event in stream:
            if isinstance(event, AgentRunResultEvent):
                return event.result.output
    raise AssertionError("a run without a result")


def _support() -> Agent[Agent[None, str], str]:
    agent = Agent(FunctionModel(stream_function=_answers, model_name="gpt-5-mini"), name="support", deps_type=Agent)

    @agent.tool
    def look_up_order(context: RunContext[Any], order: str) -> str:
        if not order.isdigit():
            raise ModelRetry("An order number is digits only.")
        return f"order {order}: shipped on Monday"

    @agent.tool
    async def ask_billing(context: RunContext[Any], question: str) -> str:
        return await _ask(context.deps, question)

    return agent


def _billing() -> Agent[None, str]:
    async def answer(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "89.00 EUR go back "
        yield "to the card."

    return Agent(FunctionModel(stream_function=answer, model_name="house-llama"), name="billing")


async def _answers(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    prompt = str(messages[0].parts[-1].content)  # type: ignore[union-attr]
    last = messages[-1].parts[-1]
    if prompt == "Please fail":
        yield "A chain that skips "
        raise RuntimeError("the model is overloaded")
    if prompt.startswith("Where") and len(messages) == 1:
        order = "PP-12" if "PP-12" in prompt else "4711"
        yield {0: DeltaToolCall("look_up_order", json.dumps({"order": order}), tool_call_id="call_1")}
    elif not isinstance(last, ToolReturnPart) and len(messages) > 1:
        yield {0: DeltaToolCall("look_up_order", '{"order": "12"}', tool_call_id="call_2")}
    elif "refund" in prompt and len(messages) == 3:
        yield {0: DeltaToolCall("ask_billing", '{"question": "How is 4711 refunded?"}', tool_call_id="call_3")}
    else:
        for word in ("It is ", "on its ", "way, and ", "that is all."):
            yield word
            await asyncio.sleep(0)
