"""Streams opened through the tap, their times, and the protocols of the returned iterators."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from typing import Any

import pytest

from sidestream import ConfigurationError
from sidestream.events import LLMEnd
from tests.support.tapped_streams import Items, PlainItems, Watching, agen, gen

WAIT = 0.05


async def drain(stream: Any) -> list[Any]:
    return [item async for item in stream]


def request(watching: Watching) -> LLMEnd:
    (end,) = watching.events("llm_end")
    data: LLMEnd = end.data
    return data


def ttft(watching: Watching) -> float | None:
    return (request(watching).time_to_first_token_seconds or {}).get("text")


class Entered(Items):
    """Stream that is a context manager, like those of the OpenAI and Anthropic clients."""

    entered = left = 0

    async def __aenter__(self) -> Entered:
        self.entered += 1
        return self

    async def __aexit__(self, *error: Any) -> None:
        self.left += 1


class PlainEntered(PlainItems):
    entered = left = 0

    def __enter__(self) -> PlainEntered:
        self.entered += 1
        return self

    def __exit__(self, *error: Any) -> None:
        self.left += 1


async def asking(items: list[Any]) -> Entered:
    """Like a client's `create(stream=True)`: returns when the provider starts to answer."""
    await asyncio.sleep(WAIT)
    return Entered(items)


# --- when the request was sent -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["for", "await", "with", "function", "async function"])
def test_an_awaitable_or_a_function_makes_the_time_to_first_token_the_users(watching: Watching, how: str) -> None:
    async def main() -> list[Any]:
        tap = watching.sidecar.tap
        match how:
            case "for":
                return [item async for item in tap(asking(["a", "b"]))]
            case "await":
                return await drain(await tap(asking(["a", "b"])))
            case "with":
                async with tap(asking(["a", "b"])) as stream:
                    return await drain(stream)
            case "function":
                return await drain(tap(lambda: asking(["a", "b"])))
        return await drain(tap(lambda: tap_later()))

    async def tap_later() -> Any:
        return await asking(["a", "b"])

    assert asyncio.run(main()) == ["a", "b"]
    assert watching.outcome() == "completed"
    first = ttft(watching)
    assert first is not None
    assert WAIT <= first <= request(watching).duration_seconds
    assert request(watching).start_unknown is None


def test_a_plain_function_is_called_at_once_and_its_time_counts(watching: Watching) -> None:
    import time

    def ask() -> PlainItems:
        time.sleep(WAIT)
        return PlainItems(["a"])

    assert list(watching.sidecar.tap(ask)) == ["a"]
    assert (ttft(watching) or 0) >= WAIT


def test_the_time_before_the_stream_is_asked_for_is_the_consumers(watching: Watching) -> None:
    async def main() -> None:
        stream = watching.sidecar.tap(asking(["a"]))
        await asyncio.sleep(4 * WAIT)
        await drain(stream)

    asyncio.run(main())
    assert WAIT <= request(watching).duration_seconds < watching.ends()[0].duration_seconds - 3 * WAIT


@pytest.mark.parametrize("make", [Items, PlainItems, list])
def test_of_a_stream_that_was_there_already_nobody_knows_the_time_to_first_token(watching: Watching, make: Any) -> None:
    stream = watching.sidecar.tap(make(["a"]))
    assert (asyncio.run(drain(stream)) if make is Items else list(stream)) == ["a"]
    end = request(watching)
    assert (end.start_unknown, end.time_to_first_token_seconds, end.time_to_first_chunk_seconds) == (True, None, None)
    assert end.chunks == 1


def test_a_generator_begins_its_work_when_its_first_item_is_asked_for(watching: Watching) -> None:
    async def slow() -> AsyncIterator[str]:
        await asyncio.sleep(WAIT)
        yield "a"

    async def main() -> None:
        stream = watching.sidecar.tap(slow())
        await asyncio.sleep(4 * WAIT)
        await drain(stream)

    asyncio.run(main())
    assert WAIT <= (ttft(watching) or 0) <= request(watching).duration_seconds
    assert request(watching).duration_seconds < watching.ends()[0].duration_seconds - 3 * WAIT


@pytest.mark.parametrize("make", [gen, agen])
def test_a_generator_that_has_begun_is_a_stream_that_was_there_already(watching: Watching, make: Any) -> None:
    async def main() -> None:
        begun = make(["a", "b"])
        assert (next(begun) if make is gen else await anext(begun)) == "a"
        tapped = watching.sidecar.tap(begun)
        assert (list(tapped) if make is gen else await drain(tapped)) == ["b"]

    asyncio.run(main())
    assert request(watching).start_unknown is True


# --- where it cannot be opened -------------------------------------------------------------------------------------


def test_a_request_that_fails_before_there_is_a_stream_is_an_error_of_the_model(watching: Watching) -> None:
    async def refused() -> Any:
        raise ConnectionError("refused")

    with pytest.raises(ConnectionError, match="refused"):
        asyncio.run(drain(watching.sidecar.tap(refused(), model="m")))
    assert (watching.outcome(), request(watching).outcome, request(watching).model) == ("error", "error", "m")
    (error,) = watching.events("error")
    assert (error.data.where, error.data.exception_type) == ("model", "ConnectionError")


def test_a_function_that_raises_raises_where_it_is_tapped(watching: Watching) -> None:
    def refused() -> Any:
        raise ConnectionError("refused")

    with pytest.raises(ConnectionError, match="refused"):
        watching.sidecar.tap(refused)
    assert (watching.outcome(), request(watching).outcome) == ("error", "error")


def test_a_limit_of_time_that_passes_while_the_request_is_under_way_is_a_time_out(watching: Watching) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(WAIT / 2):
                await drain(watching.sidecar.tap(asking(["a"])))

    asyncio.run(main())
    assert (watching.outcome(), request(watching).outcome) == ("timed_out", "cancelled")


def test_what_is_awaited_and_is_no_stream_is_said_clearly(watching: Watching) -> None:
    async def forgot_to_stream() -> Any:
        return 5

    with pytest.raises(
        ConfigurationError, match="the source returned a 'int' instead of a stream; was streaming requested"
    ):
        asyncio.run(drain(watching.sidecar.tap(forgot_to_stream())))
    assert watching.outcome() == "error"


def test_one_that_is_never_awaited_is_abandoned(watching: Watching) -> None:
    coroutine = asking([])
    tapped = watching.sidecar.tap(coroutine)
    asyncio.run(tapped.aclose())
    assert watching.outcome() == "abandoned"
    assert watching.events("llm_start") == []


def test_before_it_is_opened_it_says_so(watching: Watching) -> None:
    tapped = watching.sidecar.tap(asking([]))
    with pytest.raises(AttributeError, match="not been opened yet"):
        _ = tapped.response
    asyncio.run(tapped.aclose())


# --- context managers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaves", [False, True])
def test_a_stream_that_is_a_context_manager_is_one_when_tapped(watching: Watching, leaves: bool) -> None:
    stream = Entered(["a", "b"])

    async def main() -> None:
        async with watching.sidecar.tap(stream) as tapped:
            async for _ in tapped:
                if leaves:
                    break
        assert watching.outcome() == ("abandoned" if leaves else "completed")  # before any garbage collection

    asyncio.run(main())
    assert (stream.entered, stream.left) == (1, 1)


@pytest.mark.parametrize("leaves", [False, True])
def test_so_is_a_plain_one(watching: Watching, leaves: bool) -> None:
    stream = PlainEntered(["a", "b"])
    with watching.sidecar.tap(stream) as tapped:
        for _ in tapped:
            if leaves:
                break
    assert watching.outcome() == ("abandoned" if leaves else "completed")
    assert (stream.entered, stream.left) == (1, 1)


def test_leaving_by_an_exception_reaches_the_stream_which_may_swallow_it(watching: Watching) -> None:
    seen: list[type[BaseException]] = []

    class Swallowing(PlainEntered):
        def __exit__(self, kind: Any, *_: Any) -> bool:  # type: ignore[override]
            seen.append(kind)
            return True

    with watching.sidecar.tap(Swallowing(["a"])) as tapped:
        next(tapped)
        raise KeyError
    assert seen == [KeyError]
    assert watching.outcome() == "abandoned"


def test_a_manager_of_a_stream_is_entered_and_left_by_the_tap(watching: Watching) -> None:
    """Like an HTTP client's `stream()`."""
    acts: list[str] = []

    @asynccontextmanager
    async def connected() -> AsyncIterator[Items]:
        acts.append("entered")
        await asyncio.sleep(WAIT)
        try:
            yield Items(["a", "b"])
        finally:
            acts.append("left")

    async def main() -> list[Any]:
        async with watching.sidecar.tap(connected()) as stream:
            return await drain(stream)

    assert asyncio.run(main()) == ["a", "b"]
    assert acts == ["entered", "left"]
    assert (watching.outcome(), watching.text()) == ("completed", "ab")
    assert (ttft(watching) or 0) >= WAIT


def test_a_plain_manager_too(watching: Watching) -> None:
    @contextmanager
    def connected() -> Iterator[PlainItems]:
        yield PlainItems(["a"])

    with watching.sidecar.tap(connected()) as stream:
        assert list(stream) == ["a"]
    assert watching.outcome() == "completed"
    with watching.sidecar.tap(closing(PlainItems(["b"]))) as stream:
        assert next(stream) == "b"
    assert [end.outcome for end in watching.ends()] == ["completed", "abandoned"]


def test_a_task_cancelled_within_the_block_is_a_cancelled_run(watching: Watching) -> None:
    async def consume() -> None:
        async with watching.sidecar.tap(asking(["a", "b"])) as stream:
            await anext(stream)
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(consume())
        await asyncio.sleep(2 * WAIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert watching.outcome() == "cancelled"


@pytest.mark.parametrize("read", [lambda stream: drain(stream), lambda stream: stream.__anext__()])
def test_a_manager_that_was_not_entered_says_what_to_do(watching: Watching, read: Callable[[Any], Any]) -> None:
    stream = watching.sidecar.tap(aclosing(agen(["a"])))  # type: ignore[type-var]
    with pytest.raises(TypeError, match="enter this aclosing first, by 'async with'"):
        asyncio.run(read(stream))
    del stream
    gc.collect()
    assert watching.outcome() == "abandoned"


# --- closing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coroutine", [True, False])
def test_the_streams_own_close_ends_the_run(watching: Watching, coroutine: bool) -> None:
    """OpenAI's async streams have an async `close`, and no `aclose`."""
    closed: list[str] = []

    class Client(AsyncIterator[str]):
        async def __anext__(self) -> str:
            return "a"

        async def close(self) -> str:
            closed.append("yes")
            return "closed"

    async def main() -> None:
        tapped = watching.sidecar.tap(Client())
        assert await anext(tapped) == "a"
        if coroutine:
            assert await tapped.close() == "closed"
        else:
            await tapped.aclose()
        assert watching.outcome() == "abandoned"

    asyncio.run(main())
    assert closed == ["yes"]
