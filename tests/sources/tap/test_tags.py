"""Tags of runs that start inside a block."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from sidestream import ConfigurationError, InMemoryExporter, Sidecar
from tests.support.tapped_streams import Watching


@pytest.fixture
def tagging() -> Iterator[Watching]:
    watching = Watching(tags={"release": "1.2", "tenant": "nobody"})
    with watching.sidecar:
        yield watching


def tags_of(watching: Watching) -> list[Any]:
    found = [event.data.tags for event in watching.events("agent_start")]
    watching.memory.clear()
    return found


def run(watching: Watching) -> None:
    list(watching.sidecar.tap([]))


def test_blocks_add_to_the_sidecars_tags_and_the_inner_one_wins(tagging: Watching) -> None:
    run(tagging)
    with tagging.sidecar.tags(tenant="acme"):
        run(tagging)
        with tagging.sidecar.tags(tenant="other", job="7"):
            run(tagging)
        run(tagging)
    run(tagging)
    assert tags_of(tagging) == [
        {"release": "1.2", "tenant": "nobody"},
        {"release": "1.2", "tenant": "acme"},
        {"release": "1.2", "tenant": "other", "job": "7"},
        {"release": "1.2", "tenant": "acme"},
        {"release": "1.2", "tenant": "nobody"},
    ]


def test_an_agents_runs_and_its_sub_agents_have_them(watching: Watching) -> None:
    inner = watching.sidecar.observe(Agent(TestModel(), name="inner"))
    outer = watching.sidecar.observe(Agent(TestModel(), name="outer"))

    @outer.tool_plain
    async def ask() -> str:
        return str((await inner.run("go")).output)

    with watching.sidecar.tags(tenant="acme"):
        outer.run_sync("go")
    assert tags_of(watching) == [{"tenant": "acme"}] * 2


def test_tasks_and_threads_inherit_them_as_they_do_context_variables(watching: Watching) -> None:
    async def main() -> None:
        async def tenant(name: str) -> None:
            with watching.sidecar.tags(tenant=name):
                await asyncio.sleep(0)
                await asyncio.to_thread(run, watching)
                await asyncio.create_task(asyncio.to_thread(run, watching))

        await asyncio.gather(tenant("a"), tenant("b"))

    asyncio.run(main())
    found = [tags["tenant"] for tags in tags_of(watching)]
    assert sorted(found) == ["a", "a", "b", "b"]
    with watching.sidecar.tags(tenant="c"):
        thread = threading.Thread(target=copy_context().run, args=(run, watching))
        thread.start()
        thread.join()
    assert tags_of(watching) == [{"tenant": "c"}]


def test_a_block_left_by_an_exception_is_left(watching: Watching) -> None:
    with pytest.raises(KeyError), watching.sidecar.tags(tenant="acme"):
        raise KeyError
    run(watching)
    assert tags_of(watching) == [None]


def test_a_block_may_be_left_in_another_context(watching: Watching) -> None:
    """As with a generator closed by the garbage collector."""

    def generator() -> Any:
        with watching.sidecar.tags(tenant="acme"):
            yield

    suspended = generator()
    copy_context().run(next, suspended)
    suspended.close()
    run(watching)
    assert tags_of(watching) == [None]


class TestGenerators:
    """A context variable set by an async generator is visible to its consumer, in contrast to a block of tags."""

    @staticmethod
    async def of(watching: Watching, tenant: str) -> AsyncIterator[str]:
        with watching.sidecar.tags(tenant=tenant):
            for _ in range(2):
                run(watching)
                await asyncio.to_thread(run, watching)
                await asyncio.create_task(asyncio.to_thread(run, watching))
                yield tenant

    def tenants(self, watching: Watching) -> list[str | None]:
        return [(tags or {}).get("tenant") for tags in tags_of(watching)]

    def test_what_a_generator_starts_has_its_tags(self, watching: Watching) -> None:
        async def main() -> None:
            async for _ in self.of(watching, "red"):
                pass

        asyncio.run(main())
        assert self.tenants(watching) == ["red"] * 6

    def test_what_its_consumer_starts_does_not(self, watching: Watching) -> None:
        """Suspended at its `yield`, abandoned, or closed in another task."""

        async def main() -> None:
            async for _ in self.of(watching, "red"):
                tags_of(watching)
                run(watching)
                break
            run(watching)
            left = self.of(watching, "blue")
            await anext(left)
            await asyncio.create_task(left.aclose())  # type: ignore[attr-defined]
            tags_of(watching)
            run(watching)

        asyncio.run(main())
        assert self.tenants(watching) == [None]

    def test_two_in_turn_have_each_its_own(self, watching: Watching) -> None:
        async def main() -> None:
            red, blue = self.of(watching, "red"), self.of(watching, "blue")
            for each in (red, blue, red, blue):
                await anext(each)
                run(watching)
                await asyncio.create_task(asyncio.to_thread(run, watching))

        asyncio.run(main())
        assert self.tenants(watching) == [*["red"] * 3, None, None, *["blue"] * 3, None, None] * 2

    def test_its_variables_live_no_longer_than_without_the_block(self, watching: Watching) -> None:
        class Thing:
            pass

        things: list[weakref.ref[Thing]] = []

        async def of() -> AsyncIterator[str]:
            thing = Thing()
            things.append(weakref.ref(thing))
            with watching.sidecar.tags(tenant="red"):
                yield "a"

        async def main() -> None:
            async for _ in of():
                break
            await asyncio.sleep(0.01)
            gc.collect()
            assert things[0]() is None

        asyncio.run(main())

    def test_a_block_of_the_consumers_own_stands(self, watching: Watching) -> None:
        async def main() -> None:
            with watching.sidecar.tags(tenant="mine"):
                async for _ in self.of(watching, "red"):
                    tags_of(watching)
                    run(watching)
                    break

        asyncio.run(main())
        assert self.tenants(watching) == ["mine"]

    def test_one_that_stands_for_a_with_block_is_a_block(self, watching: Watching) -> None:
        @asynccontextmanager
        async def tenant(name: str) -> AsyncIterator[None]:
            with watching.sidecar.tags(tenant=name):
                yield

        async def main() -> None:
            async with tenant("red"):
                run(watching)
            run(watching)

        asyncio.run(main())
        assert self.tenants(watching) == ["red", None]


def test_tags_of_one_sidecar_are_not_those_of_another(watching: Watching) -> None:
    memory = InMemoryExporter()
    with Sidecar(memory) as other, watching.sidecar.tags(tenant="acme"):
        list(other.tap([]))
        assert other.flush() == {}
    assert memory.of("agent_start")[0].data.tags is None


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"tenant": 5}, r"tags: tenant=5 is a int, it must be a string"),
        ({"tenant": None}, r"tags: tenant=None is a NoneType"),
        ({"x" * 65: "y"}, r"tags: the name 'x+' must be a string of 1 to 64 characters"),
        ({"": "y"}, r"tags: the name '' must be"),
        ({f"t{i}": "x" for i in range(33)}, r"tags: 33 are too many, at most 32"),
    ],
)
def test_a_mistake_is_said_where_it_is_made(watching: Watching, tags: dict[str, Any], message: str) -> None:
    """In a block and in the sidecar's settings; and no tag of such a block remains."""
    with pytest.raises(ConfigurationError, match=message), watching.sidecar.tags(**tags):
        pass
    with pytest.raises(ConfigurationError, match=message):
        Sidecar(InMemoryExporter(), tags=tags)
    run(watching)
    assert tags_of(watching) == [None]


def test_blocks_within_blocks_are_bounded_together(watching: Watching) -> None:
    with watching.sidecar.tags(**{f"a{i}": "x" for i in range(20)}):
        with pytest.raises(ConfigurationError, match="40 are too many"):
            with watching.sidecar.tags(**{f"b{i}": "x" for i in range(20)}):
                pass


@given(value=st.text(max_size=600))
def test_a_long_value_is_cut_and_never_an_error(value: str) -> None:
    """The value may come from a request to the application."""
    watching = Watching()
    with watching.sidecar as sidecar, sidecar.tags(tenant=value):
        run(watching)
        ((tags),) = tags_of(watching)
    assert tags["tenant"] == (value if len(value) <= 256 else value[:255] + "…")
