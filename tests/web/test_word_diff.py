"""Word-by-word differences of two texts."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidestream.web.word_diff import MAX_WORDS, word_diff

words = st.lists(st.sampled_from(["the", "bag ", "bag\n", " left", ".", "on\t", "<b>", "&", "  "]), max_size=30).map(
    "".join
)


def told(a: Any, b: Any) -> tuple[str, str]:
    marked = word_diff(a, b)
    assert marked is not None
    return str(marked[0]), str(marked[1])


def test_what_only_one_has_is_marked() -> None:
    assert told("The bag left on Monday.", "The lock left on Monday, late.") == (
        "The<del> bag</del> left on Monday.",
        "The<ins> lock</ins> left on Monday<ins>, late</ins>.",
    )


def test_json_is_compared_as_it_is_read() -> None:
    assert told({"order": 1}, {"order": 2}) == (
        "{&#34;order&#34;:<del> 1</del>}",
        "{&#34;order&#34;:<ins> 2</ins>}",
    )


@given(words, words)
def test_both_texts_stand_whole(a: str, b: str) -> None:
    marked = word_diff(a, b)
    for text, html in zip((a, b), marked or (), strict=False):
        assert unescape(re.sub("</?(?:del|ins)>", "", html)) == text
    if marked is not None and a != b:
        assert "<del>" in marked[0] or "<ins>" in marked[1]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (None, "text"),
        ({"type": "str", "length": 3}, "text"),
        ("nothing in", "common here"),
        ("x y " * MAX_WORDS, "y x " * MAX_WORDS),
        ("a " * 1_000 + "b", "c" + " a" * 1_000 + " d"),
    ],
)
def test_where_it_would_not_help_or_take_long_there_is_none(a: Any, b: Any) -> None:
    assert word_diff(a, b) is None


def test_long_texts_that_differ_little_are_compared() -> None:
    text = "word " * 5_000
    assert told(text + "one", text + "two")[1].endswith("<ins> two</ins>")


def test_characters_that_turn_text_around_are_visible() -> None:
    assert told("a \u202e b", "a c b")[0] == "a<del> \\u202e</del> b"
