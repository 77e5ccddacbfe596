"""litellm: `completion`, `embedding` and their async forms, whoever the provider behind them is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from sidestream.recording.recorder import Recorder, safely
from sidestream.recording.request_recorder import monotonic_ns
from sidestream.sources.adapters.fields import UsageSoFar, plain
from sidestream.sources.adapters.openai_chat import OpenAIChat

from .calls import ModelCall, Observation, around
from .patching import Patches
from .questions import ask_chat, ask_input
from .whole import UsageAlone, chat_items, one_item

STREAM = "CustomStreamWrapper"
"""Class of its streams."""
HELD = "_sidestream_call"
"""Attribute of a stream's object that holds its call."""
PROVIDERS = {
    "gemini": "google",
    "vertex_ai": "google",
    "bedrock": "aws",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "xai": "x-ai",
    "moonshot": "moonshotai",
}
"""litellm's names of providers in genai-prices', where they differ."""


class LiteLLM(OpenAIChat):
    """Items are litellm's chunks: OpenAI's, with the usage of all providers."""

    def __init__(self) -> None:
        super().__init__()
        self._usage = _Usage("openai", flavor="chat", required=("prompt_tokens", "completion_tokens"))


class _Usage(UsageSoFar):
    def keep(self, raw: Any) -> None:
        """Writes to the cache stand beside the counts that OpenAI has."""
        counts = plain(raw)
        written = counts.get("cache_creation_input_tokens") if isinstance(counts, dict) else None
        if written:
            details = counts.get("prompt_tokens_details")
            counts["prompt_tokens_details"] = {**(details or {}), "cache_write_tokens": written}
        super().keep(counts)


def patch(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe litellm once it is imported. What `litellm.main` has under the same names may be another function."""
    main = sys.modules.get("litellm.main")
    for name in ("completion", "acompletion", "embedding", "aembedding"):

        def make(function: Any, name: str = name.removeprefix("a")) -> Callable[..., Any]:
            return around(function, observation, partial(_begin, observation, name), _answered, tells=True)

        for owner in (module, main):
            if owner is not None:
                patches.wrap(owner, name, make)


def patch_streams(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe the streams once their module is imported."""
    cls = getattr(module, STREAM)
    patches.wrap(cls, "__next__", lambda original: _next(original, observation.recorder))
    patches.wrap(cls, "__anext__", lambda original: _anext(original, observation.recorder))
    if "close" in vars(cls):
        patches.wrap(cls, "close", _close)
    if "aclose" in vars(cls):
        patches.wrap(cls, "aclose", _aclose)


def _begin(observation: Observation, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall | None:
    names = ("model", "messages") if name == "completion" else ("model", "input")
    body = {**dict(zip(names, args, strict=False)), **kwargs}
    prefix, slash, _ = str(body.get("model") or "").partition("/")
    provider = body.get("custom_llm_provider") or (prefix if slash else None)
    provider = PROVIDERS.get(provider, provider) if isinstance(provider, str) else None
    if name == "embedding":
        adapter = UsageAlone("openai", "embeddings")
        return observation.begin(ask_input(body, provider), adapter, one_item, streaming=False)
    return observation.begin(ask_chat(body, provider), LiteLLM(), chat_items, streaming=body.get("stream") is True)


def _answered(call: ModelCall, answer: Any, kwargs: dict[str, Any]) -> Any:
    if type(answer).__name__ == STREAM:
        answer.__dict__[HELD] = _Held(call)
        call.opened()
    elif hasattr(answer, "__next__") or hasattr(answer, "__anext__"):
        call.unread()
    else:
        call.answered(answer)
    return answer


class _Held:
    """Holds the call of a stream, and ends it when the stream is let go of."""

    def __init__(self, call: ModelCall) -> None:
        self.call: ModelCall | None = call
        self.pulling = False
        """Whether an item is being asked for: a stream that fails closes itself then, and raises after that."""

    def raised(self, error: BaseException, t_pull: int) -> None:
        call, self.call = self.call, None
        if call is not None:
            call.in_vain(t_pull)
            call.raised(error)

    def left(self) -> None:
        if self.pulling:
            return
        call, self.call = self.call, None
        if call is not None:
            call.left()

    def __del__(self) -> None:
        self.left()


def _next(original: Any, recorder: Recorder) -> Callable[..., Any]:
    def __next__(self: Any) -> Any:
        held = self.__dict__.get(HELD)
        call = None if held is None else held.call
        if call is None:
            return original(self)
        t_pull = monotonic_ns()
        held.pulling = True
        try:
            item = original(self)
        except BaseException as error:
            safely(recorder, held.raised, error, t_pull)
            raise
        finally:
            held.pulling = False
        call.item(item, t_pull)
        return item

    return __next__


def _anext(original: Any, recorder: Recorder) -> Callable[..., Any]:
    async def __anext__(self: Any) -> Any:
        held = self.__dict__.get(HELD)
        call = None if held is None else held.call
        if call is None:
            return await original(self)
        t_pull = monotonic_ns()
        held.pulling = True
        try:
            item = await original(self)
        except BaseException as error:
            safely(recorder, held.raised, error, t_pull)
            raise
        finally:
            held.pulling = False
        call.item(item, t_pull)
        return item

    return __anext__


def _close(original: Any) -> Callable[..., Any]:
    def close(self: Any) -> Any:
        try:
            return original(self)
        finally:
            if (held := self.__dict__.get(HELD)) is not None:
                held.left()

    return close


def _aclose(original: Any) -> Callable[..., Any]:
    async def aclose(self: Any) -> Any:
        try:
            return await original(self)
        finally:
            if (held := self.__dict__.get(HELD)) is not None:
                held.left()

    return aclose
