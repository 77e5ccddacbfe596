"""Server address of a model in the log: host and port only."""

from __future__ import annotations

import pytest

from sidestream.sources.pydantic_ai.convert import server_of


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://api.openai.com/v1/", ("api.openai.com", 443)),
        ("http://127.0.0.1:8000/v1", ("127.0.0.1", 8000)),
        ("http://user:secret@[::1]:8000/v1?key=secret#secret", ("::1", 8000)),
        ("http://gateway", ("gateway", 80)),
        ("wss://voice.example/realtime", ("voice.example", None)),
        ("https://host:none/", (None, None)),
        ("u", (None, None)),
        ("", (None, None)),
        (None, (None, None)),
    ],
)
def test_the_server_of_a_url(url: str | None, server: tuple[str | None, int | None]) -> None:
    assert server_of(url) == server
