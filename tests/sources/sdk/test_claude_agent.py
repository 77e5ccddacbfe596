"""The real Claude Agent SDK over a scripted transport; skipped if the SDK is not installed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.claude_agent_runs import IN_PIECES, WHOLE
from tests.support.sdk_observed import Installed

sdk = pytest.importorskip("claude_agent_sdk")


class Scripted(sdk.Transport):  # type: ignore[name-defined, misc]
    """Transport that answers with `messages`."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self._messages = messages

    async def connect(self) -> None:
        self._written: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    async def write(self, data: str) -> None:
        for line in map(json.loads, data.splitlines()):
            if line["type"] == "control_request":
                answer = {"subtype": "success", "request_id": line["request_id"], "response": {}}
                self._written.put_nowait({"type": "control_response", "response": answer})
            elif line["type"] == "user":
                for message in (*self._messages, None):
                    self._written.put_nowait(message)

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        while (message := await self._written.get()) is not None:
            yield message

    async def close(self) -> None:
        pass

    def is_ready(self) -> bool:
        return True

    async def end_input(self) -> None:
        pass


async def query(messages: list[dict[str, Any]]) -> list[Any]:
    return [each async for each in sdk.query(prompt="Where?", transport=Scripted(messages))]


async def converse(messages: list[dict[str, Any]]) -> list[Any]:
    async with sdk.ClaudeSDKClient(transport=Scripted(messages)) as client:
        await client.query("Where?")
        return [each async for each in client.receive_response()]


@pytest.mark.parametrize("messages", [WHOLE, IN_PIECES])
@pytest.mark.parametrize("ask", [query, converse])
def test_a_query_is_a_run(installed: Installed, ask: Any, messages: list[dict[str, Any]]) -> None:
    assert type(asyncio.run(ask(messages))[-1]) is sdk.ResultMessage
    [events] = installed.runs()
    start, end = events[0], events[-1].data
    assert (start.agent_name, start.data.prompt, end.outcome) == ("claude", "Where?", "completed")
    assert (end.usage.input_tokens, end.usage.cache_read_tokens, end.usage.output_tokens) == (2000, 800, 24)
    [told] = installed.outlines()
    assert [row[0] for row in told if row[0] != "thinking"] == [
        *("request", "text", "tool_call", "request ends", "tool", "tool ends"),
        *("request", "text", "request ends", "custom", "result", "run ends"),
    ]


def test_a_tapped_query_is_the_taps(installed: Installed) -> None:
    async def main() -> None:
        stream = sdk.query(prompt="Where?", transport=Scripted(WHOLE))
        async for _ in installed.sidecar.tap(stream, agent_name="tapped"):
            pass

    asyncio.run(main())
    [events] = installed.runs()
    assert (events[0].agent_name, events[-1].data.usage.output_tokens) == ("tapped", 24)
