"""Realtime models of pydantic-ai without an agent: each connection is a run with its usage."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.realtime.codec import ResponseDone

from sidestream.sources.pydantic_ai.realtime_models import patch_realtime
from sidestream.sources.sdk.calls import Observation
from sidestream.sources.sdk.patching import Patches
from tests.support import realtime_model
from tests.support.realtime_model import ENDS, SAYS, USED, ScriptedRealtimeModel
from tests.support.sdk_observed import Installed

ASKED: dict[str, Any] = {
    "messages": [],
    "model_settings": None,
    "model_request_parameters": ModelRequestParameters(),
}


@pytest.fixture
def patched(installed: Installed) -> Iterator[None]:
    patches = Patches("pydantic-ai")
    patch_realtime(realtime_model, patches, Observation(installed.sidecar))
    yield
    patches.undo()


def test_a_connection_is_a_run_with_all_that_it_used(installed: Installed, patched: None) -> None:
    async def main() -> list[Any]:
        turn = [*SAYS, USED, ResponseDone()]
        async with ScriptedRealtimeModel(turn, [*turn, ENDS]).connect(**ASKED) as connection:
            await connection.send("hi")
            async for event in connection:
                if isinstance(event, ResponseDone):
                    break
            await connection.send("again")
            return [event async for event in connection]

    assert len(asyncio.run(main())) >= 5
    assert installed.outlines() == [
        [
            ("request", "function:realtime"),
            ("request ends", "ok", None, (10, 4)),
            ("run ends", "completed"),
        ]
    ]


def test_one_that_fails(installed: Installed, patched: None) -> None:
    async def main() -> None:
        async with ScriptedRealtimeModel([USED, ValueError("gone")]).connect(**ASKED) as connection:
            await connection.send("hi")
            async for _ in connection:
                pass

    with pytest.raises(ValueError, match="gone"):
        asyncio.run(main())
    [(*_, end, over)] = installed.outlines()
    assert (end[1], end[3], over) == ("error", (5, 2), ("run ends", "error"))


def test_a_session_of_an_agent_is_told_once(installed: Installed, patched: None) -> None:
    async def main() -> None:
        async with Agent(name="voice").realtime(ScriptedRealtimeModel([*SAYS, USED, ResponseDone()])).session() as it:
            await it.send("hi")
            async for event in it:
                if type(event).__name__ == "RealtimeTurnCompleteEvent":
                    break

    asyncio.run(main())
    [events] = installed.runs()
    assert (events[0].agent_name, events[-1].data.usage.input_tokens) == ("voice", 5)


@pytest.mark.parametrize("name", ["openai", "google"])
def test_the_models_of_providers_are_patched(installed: Installed, name: str) -> None:
    module = pytest.importorskip(f"pydantic_ai.realtime.{name}")
    models = [each for each in vars(module).values() if isinstance(each, type) and "connect" in vars(each)]
    wrapped = [each for each in models if hasattr(vars(each)["connect"], "__wrapped__")]
    assert [each for each in wrapped if each.__module__ == module.__name__]
