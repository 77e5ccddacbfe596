"""litellm: `completion`, `embedding` and their async forms, for all providers."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType, TracebackType
from typing import Any

from sidestream.recording.recorder import safely
from sidestream.recording.request_recorder import monotonic_ns
from sidestream.sources.adapters.fields import UsageSoFar, plain
from sidestream.sources.adapters.openai_chat import OpenAIChat
from sidestream.sources.time_limits import Interruptible

from .calls import ModelCall, Observation, around
from .patching import Patches
from .request_facts import ask_chat, ask_input
from .streams import CallHolder, closing
from .whole import UsageAlone, chat_items, one_item

STREAM = "CustomStreamWrapper"
"""Class name of litellm's streams."""
HOLDER = "_sidestream_call"
"""Attribute of a stream that holds its call."""
PROVIDERS = {
    "gemini": "google",
    "vertex_ai": "google",
    "bedrock": "aws",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "xai": "x-ai",
    "moonshot": "moonshotai",
}
"""Provider names of litellm that differ in genai-prices."""


class LiteLLM(OpenAIChat):
    """Adapter for litellm's chunks: OpenAI's format, with the usage of all providers."""

    def __init__(self) -> None:
        super().__init__()
        self._usage = _Usage("openai", flavor="chat", required=("prompt_tokens", "completion_tokens"))

    def keep(self, used: Any) -> None:
        """Take usage of the answer that no item has."""
        self._usage.keep(used)


class _Usage(UsageSoFar):
    def keep(self, raw: Any) -> None:
        """Move cache writes into the prompt details, where genai-prices expects them."""
        counts = plain(raw)
        written = counts.get("cache_creation_input_tokens") if isinstance(counts, dict) else None
        if written:
            details = counts.get("prompt_tokens_details")
            counts["prompt_tokens_details"] = {**(details or {}), "cache_write_tokens": written}
        super().keep(counts)


def patch(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe litellm after its import. `litellm.main` may hold different functions under the same names."""
    main = sys.modules.get("litellm.main")
    for name in ("completion", "acompletion", "embedding", "aembedding"):

        def make(function: Any, name: str = name.removeprefix("a")) -> Callable[..., Any]:
            return around(function, observation, partial(_begin, observation, name), _answered, suppress_inner=True)

        for owner in (module, main):
            if owner is not None:
                patches.wrap(owner, name, make)


def patch_streams(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe the streams after the import of their module."""
    cls = getattr(module, STREAM)
    for name in ("__next__", "__anext__"):
        patches.wrap(cls, name, _next)
    for name in ("close", "aclose"):
        if name in vars(cls):
            patches.wrap(cls, name, closing(HOLDER))


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
        answer.__dict__[HOLDER] = _StreamHolder(call, getattr(answer, "chunks", ()))
        call.opened()
    elif hasattr(answer, "__next__") or hasattr(answer, "__anext__"):
        call.unread()
    else:
        call.answered(answer)
    return answer


class _StreamHolder(CallHolder):
    """Holder of a stream's call; as a context manager, it encloses the pull of an item."""

    def __init__(self, call: ModelCall, chunks: Iterable[Any]) -> None:
        super().__init__(call)
        self._chunks = chunks
        """The stream's own list of all that came: with the usage, which the caller gets only if it was asked for."""
        self._is_pulling = False
        """Whether a pull is in progress: a failing stream first closes itself, and then raises."""
        self._t_pull = 0

    @property
    def is_over(self) -> bool:
        """Whether the recording of the stream has ended."""
        return self._call is None

    def __enter__(self) -> None:
        self._is_pulling = True
        self._t_pull = monotonic_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_pulling = False
        if error is not None and (call := self._call) is not None:
            self._call = None
            safely(call.recorder, self._keep_usage, call)
            safely(call.recorder, call.empty_pull, self._t_pull)
            safely(call.recorder, call.raised, error)

    def record_item(self, item: Any) -> None:
        """Record `item`."""
        if self._call is not None:
            self._call.item(item, self._t_pull)

    def left(self) -> None:
        """Record that the consumer has left. Ignored during a pull, when a failing stream closes itself."""
        if self._call is not None and not self._is_pulling:
            safely(self._call.recorder, self._keep_usage, self._call)
            super().left()

    def _keep_usage(self, call: ModelCall) -> None:
        chunks, self._chunks = self._chunks, ()
        for chunk in chunks:
            if (used := getattr(chunk, "usage", None)) is not None:
                call.adapter.keep(used)


def _next(original: Any) -> Callable[..., Any]:
    def __next__(self: Any) -> Any:
        holder = self.__dict__.get(HOLDER)
        if holder is None or holder.is_over:
            return original(self)
        with holder:
            item = original(self)
        holder.record_item(item)
        return item

    async def __anext__(self: Any) -> Any:
        holder = self.__dict__.get(HOLDER)
        if holder is None or holder.is_over:
            return await original(self)
        with holder:
            item = await Interruptible(original(self))
        holder.record_item(item)
        return item

    return __anext__ if inspect.iscoroutinefunction(original) else __next__
