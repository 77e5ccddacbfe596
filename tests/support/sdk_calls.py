"""Calls through the real clients of providers, in every form that programs use."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.support.sdk_answers import MODELS

ASKED: Any = [{"role": "user", "content": "Where is it?"}]


@dataclass
class View:
    """View of the caller: classes of streams and items, items as data, and the exception."""

    items: list[Any] = field(default_factory=list)
    raised: tuple[type, str] | None = None

    def take(self, item: Any) -> None:
        data = item.model_dump() if hasattr(item, "model_dump") else item
        self.items.append((type(item), _same(data)))


def _same(data: Any) -> Any:
    """`data` without fields that differ between calls: headers, and litellm's creation time."""
    own = ("sdk_http_response", "created")
    return {name: value for name, value in data.items() if name not in own} if isinstance(data, dict) else data


Ask: TypeAlias = Callable[[str, View, int | None], Any]
"""Function that calls the server at a URL, and passes up to a number of items to a view."""


@dataclass(frozen=True)
class Way:
    """One form of a call."""

    sdk: str
    api: str
    streaming: bool
    ask: Ask

    @property
    def is_async(self) -> bool:
        """Whether the SDK's asynchronous client is used."""
        return inspect.iscoroutinefunction(self.ask)

    def seen(self, url: str, leave_after: int | None = None) -> View:
        """View of a caller that leaves after `leave_after` items."""
        view = View()
        try:
            made = self.ask(url, view, leave_after)
            if asyncio.iscoroutine(made):
                asyncio.run(made)
        except Exception as error:
            view.raised = type(error), str(error)
        return view


def _read(stream: Any, view: View, leave_after: int | None) -> None:
    view.items.append(type(stream))
    for number, item in enumerate(stream, 1):
        view.take(item)
        if number == leave_after:
            break


async def _aread(stream: Any, view: View, leave_after: int | None) -> None:
    view.items.append(type(stream))
    number = 0
    async for item in stream:
        view.take(item)
        number += 1
        if number == leave_after:
            break


def _stainless(library: str, api: str, ask: Callable[..., Any]) -> dict[str, Way]:
    """All forms of `ask(client, **options)` with a client of `library`."""

    def client(url: str) -> Any:
        module = __import__(library)
        return getattr(module, {"openai": "OpenAI", "anthropic": "Anthropic", "groq": "Groq"}[library])(
            base_url=url, api_key="none", max_retries=0
        )

    def aclient(url: str) -> Any:
        module = __import__(library)
        name = {"openai": "AsyncOpenAI", "anthropic": "AsyncAnthropic", "groq": "AsyncGroq"}[library]
        return getattr(module, name)(base_url=url, api_key="none", max_retries=0)

    def whole(url: str, view: View, _: int | None) -> None:
        with client(url) as each:
            view.take(ask(each))

    async def awhole(url: str, view: View, _: int | None) -> None:
        async with aclient(url) as each:
            view.take(await ask(each))

    def stream(url: str, view: View, leave_after: int | None) -> None:
        with client(url) as each:
            _read(ask(each, stream=True), view, leave_after)

    async def astream(url: str, view: View, leave_after: int | None) -> None:
        async with aclient(url) as each:
            await _aread(await ask(each, stream=True), view, leave_after)

    def closed(url: str, view: View, leave_after: int | None) -> None:
        with client(url) as each, ask(each, stream=True) as entered:
            _read(entered, view, leave_after)

    async def aclosed(url: str, view: View, leave_after: int | None) -> None:
        async with aclient(url) as each, await ask(each, stream=True) as entered:
            await _aread(entered, view, leave_after)

    ways: dict[str, tuple[bool, Ask]] = {
        "whole": (False, whole),
        "async whole": (False, awhole),
        "stream": (True, stream),
        "async stream": (True, astream),
        "with stream": (True, closed),
        "async with stream": (True, aclosed),
    }
    return {f"{library} {api} {name}": Way(library, api, streams, each) for name, (streams, each) in ways.items()}


def _raw() -> dict[str, Way]:
    """Raw responses of OpenAI's client, used by LangChain."""

    def client(url: str) -> Any:
        import openai

        return openai.OpenAI(base_url=url, api_key="none", max_retries=0)

    def whole(url: str, view: View, _: int | None) -> None:
        with client(url) as each:
            raw = each.chat.completions.with_raw_response.create(model=MODELS["chat"], messages=ASKED)
            view.items.append((type(raw), raw.status_code))
            view.take(raw.parse())
            assert raw.parse() is raw.parse()

    def stream(url: str, view: View, leave_after: int | None) -> None:
        with client(url) as each:
            raw = each.chat.completions.with_raw_response.create(model=MODELS["chat"], messages=ASKED, stream=True)
            _read(raw.parse(), view, leave_after)

    async def parsed(url: str, view: View, leave_after: int | None) -> None:
        import openai

        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as each:
            asked: dict[str, Any] = {"model": MODELS["chat"], "messages": ASKED, "stream": True}
            async with each.chat.completions.with_streaming_response.create(**asked) as raw:
                await _aread(await raw.parse(), view, leave_after)

    def parsed_whole(url: str, view: View, _: int | None) -> None:
        with client(url) as each:
            asked: dict[str, Any] = {"model": MODELS["chat"], "messages": ASKED}
            with each.chat.completions.with_streaming_response.create(**asked) as raw:
                view.take(raw.parse())

    def read_whole(url: str, view: View, _: int | None) -> None:
        with client(url) as each:
            with each.responses.with_streaming_response.create(model=MODELS["responses"], input="Where is it?") as raw:
                view.items.append(raw.json())

    async def aread_whole(url: str, view: View, _: int | None) -> None:
        import anthropic

        async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as each:
            asked: dict[str, Any] = {"model": MODELS["messages"], "messages": ASKED, "max_tokens": 9}
            async with each.messages.with_streaming_response.create(**asked) as raw:
                view.items.append(await raw.text())

    return {
        "openai read whole": Way("openai", "responses", False, read_whole),
        "anthropic async read whole": Way("anthropic", "messages", False, aread_whole),
        "openai streamed raw": Way("openai", "chat", True, parsed),
        "openai streamed raw whole": Way("openai", "chat", False, parsed_whole),
        "openai raw whole": Way("openai", "chat", False, whole),
        "openai raw stream": Way("openai", "chat", True, stream),
    }


def _helpers() -> dict[str, Way]:
    """`.stream()` helpers of the clients."""

    def chat(url: str, view: View, leave_after: int | None) -> None:
        import openai

        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as each:
            with each.chat.completions.stream(model=MODELS["chat"], messages=ASKED) as stream:
                _read(stream, view, leave_after)

    async def responses(url: str, view: View, leave_after: int | None) -> None:
        import openai

        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as each:
            async with each.responses.stream(model=MODELS["responses"], input="Where is it?") as stream:
                await _aread(stream, view, leave_after)

    async def messages(url: str, view: View, leave_after: int | None) -> None:
        import anthropic

        async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as each:
            async with each.messages.stream(model=MODELS["messages"], messages=ASKED, max_tokens=9) as stream:
                await _aread(stream, view, leave_after)

    return {
        "openai chat helper": Way("openai", "chat", True, chat),
        "openai responses helper": Way("openai", "responses", True, responses),
        "anthropic helper": Way("anthropic", "messages", True, messages),
    }


def _ways(
    sdk: str, api: str, whole: Callable[..., Any], awhole: Callable[..., Any], stream: Ask, astream: Ask
) -> dict[str, Way]:
    """Four forms of a call of an SDK; `whole` and `awhole` return the answer from a URL."""

    def take(url: str, view: View, _: int | None) -> None:
        view.take(whole(url))

    async def atake(url: str, view: View, _: int | None) -> None:
        view.take(await awhole(url))

    ways = {
        "whole": (False, take),
        "async whole": (False, atake),
        "stream": (True, stream),
        "async stream": (True, astream),
    }
    return {f"{sdk} {name}": Way(sdk, api, streams, each) for name, (streams, each) in ways.items()}


def _google() -> dict[str, Way]:
    asked: dict[str, Any] = {"model": MODELS["content"], "contents": "Where is it?"}

    def client(url: str) -> Any:
        from google import genai

        return genai.Client(api_key="none", http_options=genai.types.HttpOptions(base_url=url))

    def whole(url: str) -> Any:
        with client(url) as each:
            return each.models.generate_content(**asked)

    async def awhole(url: str) -> Any:
        async with client(url).aio as each:
            return await each.models.generate_content(**asked)

    def stream(url: str, view: View, leave_after: int | None) -> None:
        with client(url) as each:
            _read(each.models.generate_content_stream(**asked), view, leave_after)

    async def astream(url: str, view: View, leave_after: int | None) -> None:
        async with client(url).aio as each:
            await _aread(await each.models.generate_content_stream(**asked), view, leave_after)

    return _ways("google", "content", whole, awhole, stream, astream)


def _mistral() -> dict[str, Way]:
    asked: dict[str, Any] = {"model": MODELS["mistral"], "messages": ASKED}

    def client(url: str) -> Any:
        from mistralai.client import Mistral

        return Mistral(api_key="none", server_url=url)

    def whole(url: str) -> Any:
        with client(url) as each:
            return each.chat.complete(**asked)

    async def awhole(url: str) -> Any:
        async with client(url) as each:
            return await each.chat.complete_async(**asked)

    def stream(url: str, view: View, leave_after: int | None) -> None:
        with client(url) as each, each.chat.stream(**asked) as entered:
            _read(entered, view, leave_after)

    async def astream(url: str, view: View, leave_after: int | None) -> None:
        async with client(url) as each, await each.chat.stream_async(**asked) as entered:
            await _aread(entered, view, leave_after)

    return _ways("mistral", "mistral", whole, awhole, stream, astream)


def litellm_ways() -> dict[str, Way]:
    """Calls of litellm. Separate, because its import takes longer than all its tests."""

    def asked(url: str, **more: Any) -> dict[str, Any]:
        where = {"model": f"openai/{MODELS['chat']}", "api_base": url, "api_key": "none", "max_retries": 0}
        return {**where, "messages": ASKED, **more}

    def whole(url: str) -> Any:
        import litellm

        return litellm.completion(**asked(url))

    async def awhole(url: str) -> Any:
        import litellm

        return await litellm.acompletion(**asked(url))

    with_usage = {"include_usage": True}

    def stream(url: str, view: View, leave_after: int | None, stream_options: Any = with_usage) -> None:
        import litellm

        _read(litellm.completion(**asked(url, stream=True, stream_options=stream_options)), view, leave_after)

    async def astream(url: str, view: View, leave_after: int | None, stream_options: Any = with_usage) -> None:
        import litellm

        asking = litellm.acompletion(**asked(url, stream=True, stream_options=stream_options))
        await _aread(await asking, view, leave_after)

    return _ways("litellm", "chat", whole, awhole, stream, astream)


def _create(resource: str, api: str, **more: Any) -> Callable[..., Any]:
    asked = {"input": "Where is it?"} if api == "responses" else {"messages": ASKED}

    def ask(client: Any, **options: Any) -> Awaitable[Any]:
        target = client
        for name in resource.split("."):
            target = getattr(target, name)
        return target.create(model=MODELS[api], **asked, **more, **options)

    return ask


WAYS: dict[str, Way] = {
    **_stainless("openai", "chat", _create("chat.completions", "chat")),
    **_stainless("openai", "responses", _create("responses", "responses")),
    **_stainless("anthropic", "messages", _create("messages", "messages", max_tokens=9)),
    **_stainless("groq", "groq", _create("chat.completions", "groq")),
    **_raw(),
    **_helpers(),
    **_google(),
    **_mistral(),
}
