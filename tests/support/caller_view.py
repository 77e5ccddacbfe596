"""Runs of an agent from the caller's view, in a comparable form."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic_ai import Agent, AgentRunResultEvent

from sidestream import InMemoryExporter, Sidecar
from sidestream.events import StreamEvent
from tests.support.provider_server import Delivery, Exchange, ReplayServer, replay
from tests.support.recorded_agents import RecordedAgent

_OF_THIS_RUN = re.compile(r"pyd_ai_[0-9a-f]{32}|http://127\.0\.0\.1:\d+")
_FIELDS_OF_THIS_RUN = {"timestamp", "run_id", "conversation_id"}

Observe: TypeAlias = Callable[[Agent[None, Any]], Agent[None, Any]]
OnEvent: TypeAlias = Callable[[Any], Awaitable[bool | None]]


@dataclass
class Seen:
    """Everything that the caller of a run observes, and everything that the provider received and sent."""

    events: list[Any] = field(default_factory=list)
    result: Any = None
    error: BaseException | None = None
    asked: list[Any] = field(default_factory=list)
    """Requests received by the provider."""
    sent: list[bytes] = field(default_factory=list)
    """Bytes sent by the provider, by answer."""
    helper: asyncio.Task[None] | None = None
    """Reference that prevents garbage collection of the task."""

    def comparable(self) -> dict[str, Any]:
        """Plain values, in which ids and times of this run are replaced by their order of appearance."""
        names: dict[str, str] = {}
        result = self.result
        return {
            "events": [_plain(event, names) for event in self.events if not isinstance(event, AgentRunResultEvent)],
            "ends_with_result": [isinstance(event, AgentRunResultEvent) for event in self.events],
            "output": None if result is None else _plain(result.output, names),
            "messages": None if result is None else _plain(result.all_messages(), names),
            "usage": None if result is None else _plain(result.usage, names),
            "error": _chain(self.error, names),
            "asked": _plain(self.asked, names),
        }


def _plain(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        return _OF_THIS_RUN.sub(lambda match: names.setdefault(match[0], f"name-{len(names)}"), value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {name: getattr(value, name) for name in vars(value) if not name.startswith("_")}
        return (
            type(value).__qualname__,
            {k: type(v).__name__ if k in _FIELDS_OF_THIS_RUN else _plain(v, names) for k, v in fields.items()},
        )
    if isinstance(value, dict):
        return {_plain(k, names): _plain(v, names) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, names) for item in value]
    if hasattr(value, "model_dump"):
        return (type(value).__qualname__, _plain(value.model_dump(), names))
    return repr(value)


def _chain(error: BaseException | None, names: dict[str, str]) -> list[Any]:
    """Exception and its causes: types, messages, and attributes."""
    chain: list[Any] = []
    while error is not None:
        carried = {k: _plain(v, names) for k, v in vars(error).items() if isinstance(v, str | int | dict | None)}
        chain.append((type(error), _plain(str(error), names), carried))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return chain


async def consume(
    seen: Seen,
    recorded: RecordedAgent,
    server: ReplayServer,
    observe: Observe,
    on_event: OnEvent | None = None,
) -> None:
    """Consume and record `run_stream_events`. `on_event` is awaited in the body of the loop; True breaks out."""
    async with recorded.connect(server.url) as agent:
        try:
            async with observe(agent).run_stream_events(prompt_of(recorded, server.exchanges)) as stream:
                async for event in stream:
                    seen.events.append(event)
                    if isinstance(event, AgentRunResultEvent):
                        seen.result = event.result
                    if on_event is not None and await on_event(event):
                        break
        except BaseException as error:
            seen.error = error
            if not isinstance(error, Exception):
                raise


def watch(
    recorded: RecordedAgent,
    exchanges: Sequence[Exchange],
    *deliveries: Delivery,
    observe: Observe = lambda agent: agent,
    on_event: OnEvent | None = None,
) -> Seen:
    """Run the agent against a provider that answers with `exchanges`, and return the caller's view."""
    with serving(exchanges, *deliveries) as (server, seen):
        asyncio.run(consume(seen, recorded, server, observe, on_event))
    return seen


@contextmanager
def serving(exchanges: Sequence[Exchange], *deliveries: Delivery) -> Iterator[tuple[ReplayServer, Seen]]:
    """Server for `exchanges`, and a `Seen` that gets the server's side at the end."""
    seen = Seen()
    with replay(exchanges, *deliveries) as server:
        yield server, seen
    seen.asked = [[request.method, request.path, request.body] for request in server.received]
    seen.sent = list(server.sent)


def prompt_of(recorded: RecordedAgent, exchanges: Sequence[Exchange]) -> str:
    """Prompt of the user."""
    if recorded.prompt is not None:
        return recorded.prompt
    text: str = exchanges[0].request["messages"][0]["content"][0]["text"]
    return text


def watch_observed(
    recorded: RecordedAgent,
    exchanges: Sequence[Exchange],
    *deliveries: Delivery,
    on_event: OnEvent | None = None,
    stall_seconds: float = 2.0,
) -> tuple[Seen, list[StreamEvent]]:
    """Run the observed agent as `watch` does; returns the caller's view and the log."""
    memory = InMemoryExporter()
    with Sidecar(memory, stall_seconds=stall_seconds) as sidecar:
        seen = watch(recorded, exchanges, *deliveries, observe=sidecar.observe, on_event=on_event)
    return seen, memory.events
