"""Mistral SDK: `chat.complete`, `chat.stream` and their async forms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from sidestream.sources.adapters.mistral import Mistral

from .calls import ModelCall, Observation, around
from .patching import Patches
from .request_facts import ask_chat
from .streams import closing, observe_stream
from .whole import mistral_items

ITERATOR = "generator"
"""Attribute of a stream that holds the iterator over its items."""


def patch(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe the SDK after the import of its `chat` module."""
    for name in ("complete", "complete_async", "stream", "stream_async"):

        def make(original: Any, streaming: bool = name.startswith("stream")) -> Callable[..., Any]:
            return around(original, observation, partial(_begin, observation, streaming), _answered)

        patches.wrap(module.Chat, name, make)


def patch_streams(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe the closing of streams, after the import of their module."""
    for cls in (module.EventStream, module.EventStreamAsync):
        for name in ("close", "__exit__", "__aexit__"):
            if name in vars(cls):
                patches.wrap(cls, name, closing(ITERATOR))


def _begin(
    observation: Observation, streaming: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ModelCall | None:
    return observation.begin(ask_chat(kwargs, "mistral"), Mistral(), mistral_items, streaming=streaming)


def _answered(call: ModelCall, answer: Any, kwargs: dict[str, Any]) -> Any:
    if not hasattr(answer, ITERATOR):
        call.answered(answer)
    elif not observe_stream(call.recorder, call, answer, ITERATOR):
        call.unread()
    return answer
