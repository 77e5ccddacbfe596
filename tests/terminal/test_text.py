"""Text from elsewhere on a terminal: harmless, measured, truncated, wrapped."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidestream.terminal.text import display_width, sanitize, truncate, wrap

joined = pytest.mark.skipif(
    int(version("rich").partition(".")[0]) < 15, reason="an older rich measures joined emoji one by one"
)


@given(st.text())
def test_sanitized_text_is_printable_and_stays_as_it_is(text: str) -> None:
    safe = sanitize(text)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", safe)
    assert sanitize(safe) == safe


# Narrow, wide, of no width, and blanks, in turn: what a window over a line gets wrong.
mixed = st.text(alphabet=st.sampled_from("ab 巴é\u0301\u200d\U0001f469")) | st.text(
    alphabet=st.characters(exclude_categories=["Cc", "Cs"])
)


@given(mixed, st.integers(2, 40))
def test_wrapped_lines_fit_and_lose_nothing_but_blanks(text: str, width: int) -> None:
    pieces = list(wrap(text, width))
    assert all(display_width(piece) <= width for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")


@given(mixed, st.integers(1, 40))
def test_cut_text_fits_and_says_that_it_is_cut(text: str, width: int) -> None:
    shorter = truncate(text, width, "…")
    assert display_width(shorter) <= width
    assert shorter == text or shorter.endswith("…")


@joined
def test_a_picture_of_several_characters_has_the_width_of_one() -> None:
    assert [display_width(text) for text in ("👩‍🚀", "👨‍👩‍👧‍👦", "☂️", "作家", "é", "→≥✓")] == [2, 2, 2, 4, 1, 3]


@joined
def test_a_picture_of_several_characters_is_not_cut_in_its_middle() -> None:
    assert truncate("👩‍🚀👩‍🚀👩‍🚀", 5, "…") == "👩‍🚀👩‍🚀…"
    assert list(wrap("👩‍🚀👩‍🚀👩‍🚀", 4)) == ["👩‍🚀👩‍🚀", "👩‍🚀"]
