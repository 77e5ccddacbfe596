"""Consumers of an SDK's stream that are interrupted between its items."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from tests.support.interruptions import Interrupt, interrupted
from tests.support.sdk_answers import MODELS, streamed
from tests.support.sdk_calls import ASKED
from tests.support.sdk_observed import Installed, answering


async def openai_block(url: str, interrupt: Interrupt) -> None:
    import openai

    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        async with client.responses.stream(model=MODELS["responses"], input="Where?") as stream:
            async for _ in stream:
                await interrupt()


async def anthropic_block(url: str, interrupt: Interrupt) -> None:
    import anthropic

    async with anthropic.AsyncAnthropic(base_url=url, api_key="none") as client:
        async with client.messages.stream(model=MODELS["messages"], messages=ASKED, max_tokens=9) as stream:
            async for _ in stream:
                await interrupt()


@pytest.mark.parametrize(("api", "consume"), [("responses", openai_block), ("messages", anthropic_block)])
@pytest.mark.parametrize("by_limit", [False, True])
def test_a_consumer_that_is_interrupted(installed: Installed, api: str, consume: Any, by_limit: bool) -> None:
    with answering(streamed(api)) as url, pytest.raises(TimeoutError if by_limit else asyncio.CancelledError):
        asyncio.run(interrupted(lambda interrupt: consume(url, interrupt), by_limit=by_limit))
    gc.collect()
    [(*_, end, over)] = installed.outlines()
    assert (end[1], over) == ("cancelled", ("run ends", "timed_out" if by_limit else "cancelled"))
