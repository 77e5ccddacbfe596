"""Streams to tap, and the log of their runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from sidestream import InMemoryExporter, Sidecar
from sidestream.events import AgentEnd, LLMEnd, StreamEvent


class Watching:
    """Sidecar and its log."""

    def __init__(self, **settings: Any) -> None:
        self.memory = InMemoryExporter()
        self.sidecar = Sidecar(self.memory, **settings)

    def events(self, *types: str) -> list[StreamEvent]:
        assert self.sidecar.flush() == {}
        return [event for event in self.memory.events if not types or event.event_type in types]

    def ends(self) -> list[AgentEnd]:
        return [event.data for event in self.events("agent_end")]

    def answer(self) -> LLMEnd:
        """End of the only request."""
        (end,) = self.events("llm_end")
        data: LLMEnd = end.data
        return data

    def outcome(self) -> str:
        """Outcome of the only run, which has ended."""
        (end,) = self.ends()
        assert self.sidecar.stats().runs_in_progress == 0
        assert [event.seq for event in self.events()] == list(range(len(self.events())))
        return end.outcome

    def text(self) -> str:
        return "".join(event.data.text for event in self.events("llm_chunk"))

    def text_of(self, kind: str) -> str:
        return "".join(event.data.text for event in self.events("llm_chunk") if event.data.kind == kind)


@contextmanager
def observed_streams() -> Iterator[Watching]:
    """Sidecar for the streams of one test. Asserts that there are no recording errors."""
    watching = Watching()
    with watching.sidecar:
        yield watching
    assert watching.sidecar.stats().recording_errors == 0


class Items(AsyncIterator[Any]):
    """Async iterator that is not a generator: exceptions among its items are raised, and the iteration continues."""

    def __init__(self, items: list[Any]) -> None:
        self._items = iter(items)
        self.closed = False

    async def __anext__(self) -> Any:
        for item in self._items:
            if isinstance(item, BaseException):
                raise item
            return item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


class PlainItems(Iterator[Any]):
    """Plain counterpart of `Items`."""

    def __init__(self, items: list[Any]) -> None:
        self._items = iter(items)
        self.closed = False

    def __next__(self) -> Any:
        item = next(self._items)
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        self.closed = True


async def agen(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        if isinstance(item, BaseException):
            raise item
        yield item


def gen(items: list[Any]) -> Generator[Any, None, str]:
    for item in items:
        if isinstance(item, BaseException):
            raise item
        yield item
    return "returned"
