"""Google's Gemini SDK: requests of `generate_content` and `generate_content_stream`, in both clients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from sidestream.sources.adapters.google import Google

from .calls import ModelCall, Observation, around
from .patching import Patches
from .request_facts import ask_content, provider_at
from .streams import ObservedAsyncIterator, ObservedIterator
from .whole import one_item

STREAMING = "_generate_content_stream"
ASKING = ("_generate_content", STREAMING)
"""Methods that send exactly one request. The public methods may send several if they call functions."""


def patch(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe the SDK after the import of `google.genai.models`."""
    for name in ASKING:

        def make(original: Any, streaming: bool = name == STREAMING) -> Callable[..., Any]:
            return around(original, observation, partial(_begin, observation, streaming), _answered)

        for cls in (module.Models, module.AsyncModels):
            patches.wrap(cls, name, make)


def _begin(
    observation: Observation, streaming: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ModelCall | None:
    client = getattr(args[0], "_api_client", None)
    url = getattr(getattr(client, "_http_options", None), "base_url", None)
    provider = provider_at(url) if isinstance(url, str) and url else None
    asked = ask_content(kwargs.get("model"), kwargs.get("contents"), kwargs.get("config"), provider or "google")
    return observation.begin(asked, Google(), one_item, streaming=streaming)


def _answered(call: ModelCall, answer: Any, kwargs: dict[str, Any]) -> Any:
    if hasattr(answer, "__anext__"):
        call.opened()
        return ObservedAsyncIterator(call.recorder, call, answer)
    if hasattr(answer, "__next__"):
        return ObservedIterator(call.recorder, call, answer)  # the request is sent at the first pull
    call.answered(answer)
    return answer
