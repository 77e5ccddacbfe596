"""Realtime model of pydantic-ai with a scripted provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic_ai.realtime import RealtimeModel
from pydantic_ai.realtime.codec import OutputTranscript, RealtimeConnection, SessionUsage
from pydantic_ai.realtime.lifecycle import InferredLifecycle
from pydantic_ai.usage import RequestUsage

ENDS = object()
"""Marker: the provider closes the connection."""


class _Connection(RealtimeConnection):
    """Answers each sent content with the next list of events."""

    def __init__(self, answers: Sequence[Sequence[Any]]) -> None:
        self._answers = iter(answers)
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._lifecycle = InferredLifecycle()

    async def send(self, content: Any) -> Any:
        with self._lifecycle.sending(content):
            for event in next(self._answers, ()):
                self._events.put_nowait(event)
        return self._lifecycle.take_pending()

    async def _received(self) -> AsyncIterator[Any]:
        while (event := await self._events.get()) is not ENDS:
            if isinstance(event, Exception):
                raise event
            yield event

    def frames(self) -> Any:
        return self._lifecycle.frames(self._received())


class ScriptedRealtimeModel(RealtimeModel):
    def __init__(self, *answers: Sequence[Any]) -> None:
        super().__init__()
        self._answers = answers

    @property
    def model_name(self) -> str:
        return "function:realtime"

    @property
    def system(self) -> str:
        return "scripted"

    @asynccontextmanager
    async def connect(self, **_: Any) -> AsyncIterator[RealtimeConnection]:
        yield _Connection(self._answers)


USED = SessionUsage(RequestUsage(input_tokens=5, output_tokens=2))
SAYS = [OutputTranscript("hello "), OutputTranscript("there"), OutputTranscript("hello there", is_final=True)]
