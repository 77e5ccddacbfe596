"""SDKs whose agents expose one stream of events: each stream is a run, and consumers see the same."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from sidestream.recording.context import current
from sidestream.sources.sdk.calls import Observation
from sidestream.sources.sdk.claude_agent import patch_client, patch_query
from sidestream.sources.sdk.patching import Patches
from tests.support.claude_agent_runs import WHOLE
from tests.support.sdk_observed import Installed


class Kit:
    """Replacement for the modules of an SDK that is too large for every test run, with the used classes and methods."""

    class InternalClient:
        async def process_query(self, *, prompt: Any, options: Any = None) -> AsyncIterator[Any]:
            for message in WHOLE:
                sent = yield message
                if isinstance(sent, Exception):
                    raise sent
                await asyncio.sleep(0)

    class ClaudeSDKClient:
        async def query(self, prompt: Any) -> None:
            pass

        async def receive_response(self) -> AsyncIterator[Any]:
            for message in WHOLE:
                yield message


@pytest.fixture
def kit(installed: Installed) -> Iterator[Any]:
    patches = Patches("claude-agent")
    observation = Observation(installed.sidecar)
    patch_query(Kit, patches, observation)  # type: ignore[arg-type]
    patch_client(Kit, patches, observation)  # type: ignore[arg-type]
    yield Kit
    patches.undo()


def check(installed: Installed, outcome: str, requests: int = 2) -> None:
    [events] = installed.runs()
    assert (events[0].agent_name, events[0].data.prompt, events[-1].data.outcome) == ("claude", "Where?", outcome)
    assert sum(event.event_type == "llm_start" for event in events) == requests
    assert current.get() is None


def test_the_items_are_the_very_same(installed: Installed, kit: Any) -> None:
    async def main() -> None:
        stream = kit.InternalClient().process_query(prompt="Where?")
        assert inspect.isasyncgen(stream)
        async for number_and_item in _numbered(stream):
            assert number_and_item[1] is WHOLE[number_and_item[0]]

    asyncio.run(main())
    check(installed, "completed")


async def _numbered(stream: Any) -> AsyncIterator[Any]:
    number = 0
    async for item in stream:
        assert current.get() is None
        yield number, item
        number += 1


def test_a_client_is_asked_before_its_answer_is_read(installed: Installed, kit: Any) -> None:
    async def main() -> None:
        client = kit.ClaudeSDKClient()
        await client.query("Where?")
        assert [item async for item in client.receive_response()] == WHOLE

    asyncio.run(main())
    check(installed, "completed")


@pytest.mark.parametrize("how", ["left", "closed", "sent", "thrown"])
def test_ends(installed: Installed, kit: Any, how: str) -> None:
    async def main() -> None:
        stream = kit.InternalClient().process_query(prompt="Where?")
        for _ in range(3):
            await anext(stream)
        if how == "closed":
            await stream.aclose()
        elif how == "sent":
            with pytest.raises(ValueError, match="no more"):
                await stream.asend(ValueError("no more"))
        elif how == "thrown":
            with pytest.raises(ValueError, match="no more"):
                await stream.athrow(ValueError("no more"))

    asyncio.run(main())
    check(installed, "abandoned" if how in ("left", "closed") else "error", requests=1)


def test_cancellation(installed: Installed, kit: Any) -> None:
    async def main() -> None:
        stream = kit.InternalClient().process_query(prompt="Where?")
        await anext(stream)
        task = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    check(installed, "cancelled", requests=0)


def test_a_tapped_stream_is_the_taps(installed: Installed, kit: Any) -> None:
    async def main() -> None:
        stream = kit.InternalClient().process_query(prompt="?")
        assert [item async for item in installed.sidecar.tap(stream, prompt="Where?", agent_name="claude")] == WHOLE

    asyncio.run(main())
    check(installed, "completed")


def test_a_stream_that_nobody_listens_to(installed: Installed, kit: Any) -> None:
    async def main() -> None:
        stream = kit.InternalClient().process_query(prompt="Where?")
        installed.sidecar.close()
        assert [item async for item in stream] == WHOLE

    asyncio.run(main())
    assert installed.memory.events == []
