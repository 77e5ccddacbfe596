"""Realtime models of pydantic-ai without an agent: records the usage of each connection."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType, ModuleType
from typing import Any

from sidestream.recording.pricing import Cost, price_list_version
from sidestream.recording.recorder import Recorder, safely
from sidestream.sources.sdk.calls import ModelCall, Observation, RequestFacts
from sidestream.sources.sdk.patching import Patches
from sidestream.sources.sdk.whole import one_item
from sidestream.sources.tap.recorder import StreamRecorder

from . import convert


def patch_realtime(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe the realtime models defined in `module`, once it is imported."""

    def make(original: Any) -> Callable[..., Any]:
        @asynccontextmanager
        async def connect(self: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
            call = safely(observation.recorder, _begin, observation, self, kwargs, sys._getframe(1))
            if call is None:
                async with original(self, *args, **kwargs) as connection:
                    yield connection
                return
            try:
                async with original(self, *args, **kwargs) as connection:
                    safely(observation.recorder, _listen, observation.recorder, call, connection)
                    yield connection
            except BaseException as error:
                safely(observation.recorder, call.raised, error)
                raise
            call.unread()

        return connect

    for cls in list(vars(module).values()):
        is_own = isinstance(cls, type) and cls.__module__ == module.__name__
        if is_own and "connect" in vars(cls) and any(base.__name__ == "RealtimeModel" for base in cls.__mro__[1:]):
            patches.wrap(cls, "connect", make)


def _begin(observation: Observation, model: Any, kwargs: dict[str, Any], caller: FrameType | None) -> ModelCall | None:
    while caller is not None and caller.f_globals.get("__name__") == "contextlib":
        caller = caller.f_back
    if caller is not None and str(caller.f_globals.get("__name__")).startswith("pydantic_ai."):
        return None  # a session of an agent, which the agent's observer records
    messages = kwargs.get("messages")
    asked = RequestFacts(
        model=convert.model_name(model) or "unknown",
        provider=getattr(model, "system", None),
        messages=len(messages) if messages is not None else None,
    )
    return observation.begin(asked, RealtimeUsage(), one_item, streaming=True, skip_stack_search=True)


def _listen(recorder: Recorder, call: ModelCall, connection: Any) -> None:
    """Observe all messages of the connection: every way of reading goes through `frames`."""
    connection.frames = partial(_Frames, recorder, call, connection.frames)
    call.opened()


class _Frames(AsyncIterator[Any]):
    """Pass-through iterator over the frames of a connection."""

    def __init__(self, recorder: Recorder, call: ModelCall, frames: Callable[[], Any]) -> None:
        self._recorder = recorder
        self._call = call
        self._iterator = frames()

    async def __anext__(self) -> Any:
        item = await self._iterator.__anext__()
        safely(self._recorder, self._call.adapter, item, self._call)
        return item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)


class RealtimeUsage:
    """Adapter for realtime connections: adds up the usage of all responses."""

    def __init__(self) -> None:
        self._total: Any = None

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        for event in item:  # a frame holds several events
            event = event.event if type(event).__name__ == "StaleEvent" else event
            if type(event).__name__ == "SessionUsage":
                self._total = event.usage if self._total is None else self._total + event.usage

    def end(self, record: StreamRecorder) -> None:
        """Record the total usage."""
        used = None if self._total is None else convert.usage(self._total)
        if used is not None:
            usd = getattr(self._total, "cost", None)
            record.usage(used, None if usd is None else Cost(usd, "genai-prices", price_list_version()))
