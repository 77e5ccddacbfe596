"""Consumers of tapped streams that are interrupted: cancelled, or over their time, and the run says which."""

from __future__ import annotations

import asyncio
import gc
import types
from collections.abc import AsyncIterator, Generator
from contextlib import suppress
from typing import Any

import pytest

from tests.support.interruptions import Interrupt, interrupted
from tests.support.tapped_streams import Items, Watching


class Cleaning(AsyncIterator[str]):
    """A stream that is interrupted while it waits, and awaits something on the way out, as a connection's end is."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    async def __anext__(self) -> str:
        try:
            await self._interrupt()
        finally:
            await asyncio.sleep(0)
        raise AssertionError("not interrupted")


class Helper(Items):
    """A client's helper: it reads from a raw stream, which its `__aexit__` closes."""

    def __init__(self, items: list[Any]) -> None:
        super().__init__(items)
        self._raw_stream = Raw(items)

    async def __anext__(self) -> Any:
        return await anext(self._raw_stream)

    async def __aenter__(self) -> Helper:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._raw_stream.close()


class Raw(Items):
    async def close(self) -> None:
        await asyncio.sleep(0)


async def in_the_stream(watching: Watching, interrupt: Interrupt) -> None:
    async for _ in watching.sidecar.tap(Cleaning(interrupt)):
        pass


async def while_it_is_opened(watching: Watching, interrupt: Interrupt) -> None:
    async def opening() -> Items:
        await anext(Cleaning(interrupt))
        return Items([])

    async for _ in watching.sidecar.tap(opening()):
        pass


async def in_the_block(watching: Watching, interrupt: Interrupt) -> None:
    async with watching.sidecar.tap(Helper(["a", "b"])) as stream:
        async for _ in stream:
            await interrupt()


async def in_the_loop(watching: Watching, interrupt: Interrupt) -> None:
    async for _ in watching.sidecar.tap(Items(["a", "b"])):
        await interrupt()


@pytest.mark.parametrize("consume", [in_the_stream, while_it_is_opened, in_the_block, in_the_loop])
@pytest.mark.parametrize("by_limit", [False, True])
def test_whether_it_was_a_limit_of_time_is_known(watching: Watching, consume: Any, by_limit: bool) -> None:
    with suppress(TimeoutError, asyncio.CancelledError):
        asyncio.run(interrupted(lambda interrupt: consume(watching, interrupt), by_limit=by_limit))
    gc.collect()  # the exception's traceback may hold the stream
    assert watching.outcome() == ("timed_out" if by_limit else "cancelled")
    assert all(end.data.outcome == "cancelled" for end in watching.events("llm_end"))


class Generated(Items):
    """An async iterator whose `__anext__` is a generator-based coroutine, which has no `__await__`."""

    @types.coroutine
    def __anext__(self) -> Generator[Any, Any, Any]:
        yield from asyncio.sleep(0).__await__()
        for item in self._items:
            return item
        raise StopAsyncIteration


class NoStream(Items):
    """An async iterator whose `__anext__` gives nothing to await."""

    def __anext__(self) -> Any:
        return 1


def test_what_is_awaited_is_what_the_stream_gives(watching: Watching) -> None:
    async def main(make: Any) -> list[Any]:
        return [item async for item in make]

    assert asyncio.run(main(watching.sidecar.tap(Generated(["a", "b"])))) == ["a", "b"]
    bare, tapped = NoStream([]), watching.sidecar.tap(NoStream([]))
    for each in (bare, tapped):
        with pytest.raises(TypeError):
            asyncio.run(main(each))
