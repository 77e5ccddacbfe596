"""Arbitrary requests to the pages never cause a server error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.support.log_builder import run_events, write
from tests.support.web_client import client_of

PATHS = st.sampled_from(
    ["", "search", "conversations", "conversations/c-1", "compare", "errors", "runs/one", "runs/one/events", "traces/0"]
)
KEYS = st.sampled_from(["order", "page", "q", "runs", "seq", "sort", "steps", "type", "run", "agent", "since", "tag"])
VALUES = st.sampled_from(
    ["", "-1", "0", "1e400", "nan", "9" * 30, "one", "2026-13-99", "-1h", "=", "a=b", '"', "*[", "NEAR(", "\0", "../.."]
) | st.text(max_size=12)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("pages")
    write(folder / "a.jsonl", [*run_events("one", conversation_id="c-1"), *run_events("two", minutes=1, ended=False)])
    with client_of(folder) as client:
        yield client


@settings(max_examples=80, deadline=None)
@given(
    path=PATHS | st.text(min_size=1, max_size=8).map(lambda text: quote(text, safe="")),
    asked=st.lists(st.tuples(KEYS | st.text(max_size=4), VALUES), max_size=4),
)
def test_is_answered(pages: TestClient, path: str, asked: list[tuple[str, str]]) -> None:
    text = urlencode([(key.encode("utf-8", "replace"), value.encode("utf-8", "replace")) for key, value in asked])
    answer = pages.get(f"/{path}?{text}")
    assert answer.status_code < 500, answer.text
