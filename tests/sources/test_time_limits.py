"""A time limit around an observed run or a tapped stream is recorded as a timeout, at any distance."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import anyio
import pytest
from pydantic_ai import Agent
from pydantic_ai.models.function import FunctionModel

from sidestream import InMemoryExporter, Sidecar, run_stream
from sidestream.sources.time_limits import Interruptible, is_time_out

SOON = 0.1
Work: TypeAlias = Callable[[], Awaitable[None]]
Limit: TypeAlias = Callable[[Work], Awaitable[None]]


# --- limits ----------------------------------------------------------------------------------------------------------


async def timeout(work: Work) -> None:
    async with asyncio.timeout(SOON):
        await work()


async def wait_for(work: Work) -> None:
    await asyncio.wait_for(work(), SOON)


async def wait_for_a_task(work: Work) -> None:
    await asyncio.wait_for(asyncio.ensure_future(work()), SOON)


async def fail_after(work: Work) -> None:
    with anyio.fail_after(SOON):
        await work()


async def move_on_after(work: Work) -> None:
    with anyio.move_on_after(SOON) as scope:
        await work()
    assert scope.cancelled_caught
    raise TimeoutError


async def exit_stack(work: Work) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(SOON))
        await work()


async def manager_of_its_own(work: Work) -> None:
    @asynccontextmanager
    async def limited() -> AsyncIterator[None]:
        async with asyncio.timeout(SOON):
            yield

    async with limited():
        await work()


async def around_a_task(work: Work) -> None:
    async with asyncio.timeout(SOON):
        await asyncio.ensure_future(work())


async def around_a_group(work: Work) -> None:
    async with asyncio.timeout(SOON), asyncio.TaskGroup() as group:
        group.create_task(work())  # type: ignore[arg-type]


async def around_gather(work: Work) -> None:
    async with asyncio.timeout(SOON):
        await asyncio.gather(work(), asyncio.sleep(0))


LIMITS: list[Limit] = [timeout, wait_for, fail_after]
MORE_LIMITS: list[Limit] = [wait_for_a_task, move_on_after, exit_stack, manager_of_its_own]
MORE_LIMITS += [around_a_task, around_a_group, around_gather]


# --- what is limited -------------------------------------------------------------------------------------------------


async def _words(messages: Any = None, info: Any = None) -> AsyncIterator[str]:
    yield "a"
    await asyncio.sleep(60)
    yield "b"


class Words(AsyncIterator[str]):
    """Iterator that is not a generator: a cancelled pull leaves it unchanged."""

    begun = False

    async def __anext__(self) -> str:
        if self.begun:
            await asyncio.sleep(60)
        self.begun = True
        return "a"


async def _opened_late() -> AsyncIterator[str]:
    await asyncio.sleep(60)
    return _words()


async def a_run(sidecar: Sidecar, agent: Agent[None, str]) -> None:
    await agent.run("hi", event_stream_handler=_drain)


async def its_events(sidecar: Sidecar, agent: Agent[None, str]) -> None:
    async with agent.run_stream_events("hi") as events:
        await _drain(None, events)


async def the_guide_s_events(sidecar: Sidecar, agent: Agent[None, str]) -> None:
    await _drain(None, run_stream(agent, "hi"))


async def a_tapped_generator(sidecar: Sidecar, agent: Agent[None, str]) -> None:
    await _drain(None, sidecar.tap(_words(), adapter="text"))


async def a_tapped_iterator(sidecar: Sidecar, agent: Agent[None, str]) -> None:
    async with sidecar.tap(Words(), adapter="text") as stream:
        await _drain(None, stream)


async def a_tap_that_opens(sidecar: Sidecar, agent: Agent[None, str]) -> None:
    await _drain(None, sidecar.tap(_opened_late(), adapter="text"))


async def _drain(_: Any, stream: Any) -> None:
    async for _item in stream:
        pass


WORKS = [a_run, its_events, the_guide_s_events, a_tapped_generator, a_tapped_iterator, a_tap_that_opens]


def _outcomes(work: Any, around: Callable[[Work], Awaitable[None]]) -> tuple[str, str]:
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(Agent(FunctionModel(stream_function=_words), name="a"))
        asyncio.run(around(lambda: work(sidecar, agent)))  # type: ignore[arg-type]
        gc.collect()
    ([request], [run]) = memory.of("llm_end"), memory.of("agent_end")
    return request.data.outcome, run.data.outcome


EACH_LIMIT = [(work, limit) for work in WORKS for limit in LIMITS]
EACH_LIMIT += [(work, limit) for work in (its_events, a_tapped_generator) for limit in MORE_LIMITS]


@pytest.mark.parametrize(("work", "limit"), EACH_LIMIT)
def test_a_limit_that_has_passed_is_a_time_out(work: Any, limit: Limit) -> None:
    async def around(limited: Work) -> None:
        with pytest.raises(TimeoutError):
            await limit(limited)

    assert _outcomes(work, around) == ("cancelled", "timed_out")


async def long_timeout(work: Work) -> None:
    async with asyncio.timeout(60):
        await work()


async def long_wait_for(work: Work) -> None:
    await asyncio.wait_for(work(), 60)


async def long_fail_after(work: Work) -> None:
    with anyio.fail_after(60):
        await work()


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("limit", [long_timeout, long_wait_for, long_fail_after])
def test_a_cancellation_within_a_limit_that_has_not_passed_is_a_cancellation(work: Any, limit: Limit) -> None:
    async def around(limited: Work) -> None:
        task = asyncio.ensure_future(limit(limited))
        await asyncio.sleep(SOON)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert _outcomes(work, around) == ("cancelled", "cancelled")


@pytest.mark.parametrize("work", WORKS)
def test_a_neighbour_that_fails_is_no_time_out(work: Any) -> None:
    async def around(limited: Work) -> None:
        async def fails() -> None:
            await asyncio.sleep(SOON)
            raise KeyError

        async def both() -> None:
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(limited())  # type: ignore[arg-type]
                group.create_task(fails())

        with pytest.raises(ExceptionGroup):
            await both()

    assert _outcomes(work, around) == ("cancelled", "cancelled")


def test_a_limit_within_another_task_is_none_of_the_one_that_waits_for_it() -> None:
    """An expired limit of a sibling task does not turn a cancellation into a timeout."""

    async def around(limited: Work) -> None:
        async def swallows() -> None:
            async with asyncio.timeout(0):
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    await asyncio.sleep(60)

        task = asyncio.ensure_future(asyncio.wait_for(asyncio.gather(limited(), swallows()), 60))
        await asyncio.sleep(SOON)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, TimeoutError)):
            await task

    assert _outcomes(its_events, around) == ("cancelled", "cancelled")


class _Plain:
    """Awaitable whose steps are a plain iterator without `send` and `throw`."""

    def __await__(self) -> Any:
        return iter([None, None])


@pytest.mark.parametrize("plain", [False, True])
def test_a_limit_is_noted_before_what_is_awaited_cleans_up(plain: bool) -> None:
    async def cleans_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)

    async def main() -> bool:
        try:
            async with asyncio.timeout(None) as limit:
                limit.reschedule(0)
                try:
                    while True:
                        await Interruptible(_Plain() if plain else cleans_up())
                except asyncio.CancelledError as error:
                    noted = is_time_out(error)
                    raise
        except TimeoutError:
            return noted
        return False

    assert asyncio.run(main())


def test_a_later_cancellation_is_none() -> None:
    async def main() -> bool:
        async def once() -> None:
            async with asyncio.timeout(0):
                await Interruptible(asyncio.sleep(60))

        async def task() -> bool:
            try:
                await once()
            except TimeoutError:
                pass
            try:
                await Interruptible(asyncio.sleep(60))
            except asyncio.CancelledError as error:
                return is_time_out(error)
            return True

        running = asyncio.ensure_future(task())
        for _ in range(10):
            await asyncio.sleep(0)
        running.cancel()
        return await running

    assert not asyncio.run(main())
