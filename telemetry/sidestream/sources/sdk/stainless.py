"""SDKs of OpenAI, Anthropic and Groq, whose clients are made by one generator: all calls go through `request`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

from sidestream.recording.recorder import safely
from sidestream.sources.adapters.anthropic import Anthropic
from sidestream.sources.adapters.openai_chat import OpenAIChat
from sidestream.sources.adapters.openai_responses import OpenAIResponses

from .calls import Asked, ModelCall, Observation, around
from .patching import Patches
from .questions import ask_chat, ask_input, ask_message, ask_response, provider_at
from .streams import closing, see
from .whole import UsageAlone, chat_items, message_items, one_item, response_items

ITERATOR = "_iterator"
"""Attribute of a stream's object: the iterator over its items that all of its methods read from."""

UNPARSED = "_sidestream_unparsed"
"""Attribute of a response's object that holds its call."""


class Endpoint(NamedTuple):
    """An endpoint of a provider's API that asks a model."""

    ask: Callable[[Mapping[str, Any], str | None], Asked]
    adapter: Callable[[], Any]
    items: Callable[[Any], Iterator[Any]]
    """An answer that comes at once, as the items of a stream."""


ENDPOINTS = {
    "/chat/completions": Endpoint(ask_chat, OpenAIChat, chat_items),
    "/responses": Endpoint(ask_response, OpenAIResponses, response_items),
    "/embeddings": Endpoint(ask_input, lambda: UsageAlone("openai", "embeddings"), one_item),
    "/images/generations": Endpoint(ask_input, lambda: UsageAlone("openai", "images"), one_item),
    "/images/edits": Endpoint(ask_input, lambda: UsageAlone("openai", "images"), one_item),
    "/v1/messages": Endpoint(ask_message, Anthropic, message_items),
}
"""By the end of the address. What is asked elsewhere (files, batches, moderations, …) is not told."""


def observe(library: str) -> Callable[[ModuleType, Patches, Observation], None]:
    """Makes the function that observes the SDK `library` once its `_base_client` is imported."""

    def patch(module: ModuleType, patches: Patches, observation: Observation) -> None:
        def make(original: Any) -> Callable[..., Any]:
            return around(original, observation, partial(_begin, observation, library), partial(_answered, observation))

        for client in (module.SyncAPIClient, module.AsyncAPIClient):
            patches.wrap(client, "request", make)
        for each in (module.Stream, module.AsyncStream):
            patches.wrap(each, "close", closing(ITERATOR))

    return patch


def observe_responses(module: ModuleType, patches: Patches, observation: Observation) -> None:
    """Observe what `with_streaming_response` gives, once its module is imported: it is read as the caller parses it."""

    def make(original: Any) -> Callable[..., Any]:
        def parse(self: Any, *args: Any, **kwargs: Any) -> Any:
            return _parsed(self, original(self, *args, **kwargs))

        async def aparse(self: Any, *args: Any, **kwargs: Any) -> Any:
            return _parsed(self, await original(self, *args, **kwargs))

        return aparse if inspect.iscoroutinefunction(original) else parse

    for name in ("APIResponse", "AsyncAPIResponse"):
        if "parse" in vars(getattr(module, name, None) or type):
            patches.wrap(getattr(module, name), "parse", make)


class _Unparsed:
    """Holds the call of a response until somebody parses it; nobody else can read what it brings."""

    def __init__(self, call: ModelCall, streaming: bool) -> None:
        self.call: ModelCall | None = call
        self.streaming = streaming

    def parsed(self, answer: Any) -> None:
        call, self.call = self.call, None
        if call is None:
            return
        if not self.streaming:
            call.answered(answer)
        elif not see(call.recorder, call, answer, ITERATOR):
            call.unread()

    def __del__(self) -> None:
        if self.call is not None:
            safely(self.call.recorder, self.call.unread)


def _parsed(response: Any, answer: Any) -> Any:
    unparsed = vars(response).get(UNPARSED)
    if unparsed is not None and unparsed.call is not None:
        safely(unparsed.call.recorder, unparsed.parsed, answer)
    return answer


def observe_helper(*names: str) -> Callable[[ModuleType, Patches, Observation], None]:
    """Makes the function that observes the classes `names` of a module: `.stream()` helpers, which read a stream."""

    def patch(module: ModuleType, patches: Patches, observation: Observation) -> None:
        for name in names:
            if (cls := getattr(module, name, None)) is not None:
                patches.wrap(cls, "close", closing(f"_raw_stream.{ITERATOR}"))

    return patch


def _begin(observation: Observation, library: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelCall | None:
    """The call that begins with a request of a client; None where it asks no model."""
    client, options = args[0], kwargs["options"] if "options" in kwargs else args[2]
    body = options.json_data
    if options.method.lower() != "post" or not isinstance(body, Mapping):
        return None
    path = options.url.partition("?")[0]
    endpoint = next((each for end, each in ENDPOINTS.items() if path.endswith(end)), None)
    if endpoint is None:
        return None
    provider = provider_at(str(client.base_url)) or library
    streaming = bool(kwargs.get("stream"))
    return observation.begin(endpoint.ask(body, provider), endpoint.adapter(), endpoint.items, streaming=streaming)


def _answered(observation: Observation, call: ModelCall, answer: Any, kwargs: dict[str, Any]) -> Any:
    streaming = kwargs.get("stream")
    if not hasattr(answer, "http_response"):
        if not streaming:
            call.answered(answer)
        elif not see(observation.recorder, call, answer, ITERATOR):
            call.unread()
    elif not _read_raw(observation, call, answer, streaming):
        vars(answer)[UNPARSED] = _Unparsed(call, bool(streaming))
    return answer


def _read_raw(observation: Observation, call: ModelCall, answer: Any, streaming: Any) -> bool:
    """Read what `with_raw_response` gives; False for `with_streaming_response`, which the caller reads first."""
    if streaming:
        # The stream is made once and kept: the caller's own `parse()` gives the very same.
        if inspect.iscoroutinefunction(answer.parse):
            return False
        return see(observation.recorder, call, answer.parse(), ITERATOR)
    if not answer.http_response.is_closed:
        return False
    call.answered(json.loads(answer.http_response.content))
    return True
