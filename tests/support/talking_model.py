"""Scripted model and agent, and an event loop that fails on any complaint."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, FunctionModel

from sidestream import InMemoryExporter, Sidecar, StreamEvent
from tests.support.scripted_model import Call, Think

os.environ["PYDANTIC_AI_NO_BANNER"] = "1"

T = TypeVar("T")


Do: TypeAlias = Callable[[], Awaitable[None]]
Step: TypeAlias = str | Think | Call | Exception | Do
"""Steps of an answer: a string is a delta, an exception is raised, a function is awaited."""


def model_of(*answers: Sequence[Step], name: str = "gpt-5") -> FunctionModel:
    """Model with `answers`, one for each request of a conversation; the last one is repeated.

    Without streaming, the model gives a short fixed answer.
    """

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        said = sum(isinstance(message, ModelResponse) for message in messages)
        for index, step in enumerate(answers[min(said, len(answers) - 1)]):
            match step:
                case str():
                    yield step
                case Think():
                    yield {index: DeltaThinkingPart(content=step.text)}
                case Call():
                    for delta in step.deltas():
                        yield {index: delta}
                case Exception():
                    raise step
                case _:
                    await step()

    def request(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse([TextPart("in one piece")])

    return FunctionModel(request, stream_function=stream, model_name=name)


def agent_of(*answers: Sequence[Step], tools: Sequence[Any] = (), **settings: Any) -> Agent[Any, Any]:
    """Agent whose model gives `answers`."""
    return Agent(model_of(*answers), name=settings.pop("name", "clerk"), tools=tools, **settings)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for `condition()`, at most five seconds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def forever() -> None:
    """Endless silence of a provider or a tool."""
    await asyncio.sleep(3600)


def types_of(events: Sequence[StreamEvent]) -> list[str]:
    """Event types, in order."""
    return [event.event_type.value for event in events]


def texts_of(events: Sequence[StreamEvent], kind: str = "text") -> list[str]:
    """Text of each `llm_chunk` of one kind."""
    return [event.data.text for event in events if event.event_type == "llm_chunk" and event.data.kind == kind]


def of(events: Sequence[StreamEvent], event_type: str) -> list[Any]:
    """Payloads of one type."""
    return [event.data for event in events if event.event_type == event_type]


@dataclass
class Log:
    """Sidecar and its exported events."""

    memory: InMemoryExporter = field(default_factory=InMemoryExporter)
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sidecar = Sidecar(self.memory, **self.settings)

    @property
    def events(self) -> list[StreamEvent]:
        """All events so far."""
        assert self.sidecar.flush() == {}
        assert self.sidecar.stats().recording_errors == 0
        return self.memory.events

    @property
    def endings(self) -> list[str]:
        """Outcomes of the ended runs."""
        return [data.outcome for data in of(self.events, "agent_end")]


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` that asserts no complaints by the loop, the garbage collector, warnings and logs."""
    noise: list[Any] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "exporter=" not in record.getMessage():  # diagnostics about a failing exporter
                noise.append(record.getMessage())

    async def heard() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
        try:
            return await main
        finally:
            gc.collect()
            for turn in range(1_000):  # a cancelled task may wait for a thread on a busy machine
                await asyncio.sleep(0 if turn < 10 else 0.01)
                left = asyncio.all_tasks() - {asyncio.current_task()}
                if turn >= 10 and not left:
                    break
            else:
                noise.append(left)

    handler, unraisable = Handler(logging.WARNING), sys.unraisablehook
    logging.getLogger().addHandler(handler)
    sys.unraisablehook = lambda raised: noise.append(raised.exc_value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = asyncio.run(heard())
        gc.collect()
    finally:
        sys.unraisablehook = unraisable
        logging.getLogger().removeHandler(handler)
        assert not noise, noise
    return result
