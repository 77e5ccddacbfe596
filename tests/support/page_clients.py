"""Clients of a provider for the code of the documentation: real clients whose transport answers without a network."""

from __future__ import annotations

from httpx2 import AsyncClient, Client, MockTransport, Request, Response
from openai import AsyncOpenAI, OpenAI

from tests.support.sdk_answers import streamed


def openai_client() -> OpenAI:
    """Client whose chat completions stream the answer of `sdk_answers`."""
    return OpenAI(api_key="none", http_client=Client(transport=MockTransport(_answer)))


def async_openai_client() -> AsyncOpenAI:
    """Async client whose chat completions stream the answer of `sdk_answers`."""
    return AsyncOpenAI(api_key="none", http_client=AsyncClient(transport=MockTransport(_answer)))


def _answer(request: Request) -> Response:
    return Response(200, headers={"content-type": "text/event-stream"}, content=streamed("chat"))
