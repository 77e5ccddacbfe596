"""Facts of a request from the arguments of an SDK call."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sidestream.sources.sdk.request_facts import ask_chat, ask_content, ask_message, ask_response


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"stop": "END"}, ["END"]), ({"stop": ["A", "B"]}, ["A", "B"]), ({"stop_sequences": ["C"]}, ["C"]), ({}, None)],
)
def test_stop_sequences_under_each_sdks_name(given: dict[str, Any], expected: list[str] | None) -> None:
    assert ask_chat({"model": "m", "messages": [], **given}, None).stop_sequences == expected
    assert ask_message({"model": "m", "messages": [], **given}, None).stop_sequences == expected


def test_stop_sequences_of_gemini() -> None:
    config = SimpleNamespace(stop_sequences=["END"], temperature=0.5)
    facts = ask_content("models/gemini", "hi", config, "google")
    assert (facts.stop_sequences, facts.settings) == (["END"], {"temperature": 0.5})


def test_the_responses_api_has_no_stop_sequences() -> None:
    assert ask_response({"model": "m", "input": "hi"}, None).stop_sequences is None
