"""Transparency of taps: any stream behaves the same for its consumer."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestream import InMemoryExporter, Sidecar, decode_line, encode_line
from sidestream.sources.adapters.registry import BUILT_IN
from tests.support.tapped_streams import Items, PlainItems, Watching, agen, gen

pytestmark = pytest.mark.scenario_07

json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
chat_like = st.fixed_dictionaries(
    {"object": st.just("chat.completion.chunk")},
    optional={"choices": json_like | st.lists(json_like), "usage": json_like, "error": json_like, "model": json_like},
)
errors = st.sampled_from([ValueError, KeyError, RuntimeError, ExceptionGroup]).map(
    lambda kind: kind("x", [ValueError()]) if kind is ExceptionGroup else kind("x")
)
items = st.lists(json_like | chat_like | st.builds(object) | errors, max_size=8)
"""Exceptions among the items are raised."""
acts = st.lists(st.sampled_from(["next", "next", "next", "close"]), max_size=12) | st.just(["next"] * 12)
adapters = st.sampled_from([None, *BUILT_IN])


def _kept(error: BaseException) -> Any:
    """Exception without its traceback, which would keep the stream alive."""
    end = isinstance(error, StopIteration | StopAsyncIteration)
    return (type(error), error.args) if end else error.with_traceback(None)


def _plain(stream: Any, acts: list[str]) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []
    for act in acts:
        try:
            seen.append((act, next(stream) if act == "next" else stream.close()))
        except BaseException as error:
            seen.append(("raised", _kept(error)))
    return seen


async def _async(stream: Any, acts: list[str]) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []
    for act in acts:
        try:
            seen.append((act, await (anext(stream) if act == "next" else stream.aclose())))
        except BaseException as error:
            seen.append(("raised", _kept(error)))
    return seen


def _same(bare: list[tuple[str, Any]], tapped: list[tuple[str, Any]]) -> bool:
    """The same objects, except for the exceptions that end an iteration."""
    return [what for what, _ in bare] == [what for what, _ in tapped] and all(
        a is b or (isinstance(a, tuple) and a == b) for (_, a), (_, b) in zip(bare, tapped, strict=True)
    )


@settings(max_examples=150, deadline=None)
@given(items=items, acts=acts, adapter=adapters, make=st.sampled_from([gen, PlainItems]))
def test_a_plain_stream_gives_the_same(
    items: list[Any], acts: list[str], adapter: str | None, make: Callable[..., Any]
) -> None:
    with Sidecar(InMemoryExporter()) as sidecar:
        tapped = _plain(sidecar.tap(make(items), adapter=adapter), acts)
    assert _same(_plain(make(items), acts), tapped)


@settings(max_examples=150, deadline=None)
@given(items=items, acts=acts, adapter=adapters, make=st.sampled_from([agen, Items]))
def test_an_async_stream_gives_the_same(
    items: list[Any], acts: list[str], adapter: str | None, make: Callable[..., Any]
) -> None:
    async def both() -> tuple[list[Any], list[Any]]:
        return await _async(make(items), acts), await _async(sidecar.tap(make(items), adapter=adapter), acts)

    with Sidecar(InMemoryExporter()) as sidecar:
        bare, tapped = asyncio.run(both())
    assert _same(bare, tapped)


@settings(max_examples=100, deadline=None)
@given(items=items, acts=acts, adapter=adapters, make=st.sampled_from([gen, PlainItems]))
def test_every_stream_leaves_one_whole_run_in_the_log(
    items: list[Any], acts: list[str], adapter: str | None, make: Callable[..., Any]
) -> None:
    """After the end of the stream, whatever its items and the adapter's results, every line is valid."""
    watching = Watching()
    with watching.sidecar as sidecar:
        _plain(sidecar.tap(make(items), adapter=adapter), acts)
        assert watching.outcome() in ("completed", "error", "abandoned")
        for event in watching.events():
            decode_line(encode_line(event))


def test_the_stream_is_asked_only_when_its_consumer_asks(watching: Watching) -> None:
    """Back-pressure: the tap neither buffers nor prefetches."""
    asked = 0

    async def stream() -> AsyncIterator[int]:
        nonlocal asked
        while True:
            asked += 1
            yield asked

    async def main() -> None:
        async for item in watching.sidecar.tap(stream()):
            assert asked == item
            await asyncio.sleep(0)
            assert asked == item
            if item == 5:
                break

    asyncio.run(main())


def test_a_generator_is_driven_as_without_the_tap(watching: Watching) -> None:
    """`send`, `throw` and `yield from` reach the generator, and its return value is passed on."""

    def echo() -> Any:
        got = yield "ready"
        try:
            yield got
        except KeyError:
            yield "caught"
        return "over"

    tapped = watching.sidecar.tap(echo())
    assert (next(tapped), tapped.send("sent"), tapped.throw(KeyError())) == ("ready", "sent", "caught")
    with pytest.raises(StopIteration) as stop:
        next(tapped)
    assert stop.value.value == "over"

    def delegating() -> Any:
        return (yield from watching.sidecar.tap(gen(["a"])))

    outer = delegating()
    assert next(outer) == "a"
    with pytest.raises(StopIteration) as stop:
        next(outer)
    assert stop.value.value == "returned"


def test_other_attributes_are_the_streams(watching: Watching) -> None:
    stream = Items([])
    stream.response = "the response"  # type: ignore[attr-defined]
    tapped = watching.sidecar.tap(stream)
    assert tapped.response == "the response"
    assert not hasattr(tapped, "nonsense")
    asyncio.run(tapped.aclose())
    assert stream.closed


def test_letting_go_of_a_tap_does_not_close_what_would_not_be_closed(watching: Watching) -> None:
    stream = Items(["a", "b"])

    async def main() -> list[str]:
        async for _ in watching.sidecar.tap(stream):
            break
        return [item async for item in stream]

    assert asyncio.run(main()) == ["b"]
    assert not stream.closed


def test_a_generators_cleanup_runs_when_it_would(watching: Watching) -> None:
    """On break as well as on `aclose`; its context variables stay separate."""
    cleaned: list[str] = []

    async def stream() -> AsyncIterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            await asyncio.sleep(0)
            cleaned.append("yes")

    async def main() -> None:
        async for _ in watching.sidecar.tap(stream()):
            break
        await asyncio.sleep(0.01)
        assert cleaned == ["yes"]
        tapped = watching.sidecar.tap(stream())
        await anext(tapped)
        await tapped.aclose()
        assert cleaned == ["yes", "yes"]

    asyncio.run(main())
    assert [end.outcome for end in watching.ends()] == ["abandoned", "abandoned"]


def test_the_exception_is_the_streams_own_with_its_traceback(watching: Watching) -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as raised:
        list(watching.sidecar.tap(gen(["a", error])))
    assert raised.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "gen"


def test_a_closed_sidecar_passes_the_stream_on() -> None:
    sidecar = Sidecar(InMemoryExporter())
    sidecar.close()
    assert list(sidecar.tap(["a", "b"])) == ["a", "b"]
    assert sidecar.stats().runs == 0


def test_closing_the_sidecar_in_mid_stream_changes_nothing() -> None:
    sidecar = Sidecar(InMemoryExporter())
    tapped = sidecar.tap(gen(["a", "b", "c"]))
    assert next(tapped) == "a"
    sidecar.close()
    assert list(tapped) == ["b", "c"]
    assert sidecar.stats().recording_errors == 0
