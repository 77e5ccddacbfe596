"""Word-by-word difference of two texts, for the comparison of two runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any, Literal

from markupsafe import Markup, escape

from .wording import as_text, not_kept, visible

MAX_WORDS = 1_500
"""Most words of either text, without the common beginning and end."""
MAX_PAIRS = 50_000
"""Most pairs of equal words; the time of SequenceMatcher grows with their number."""
MAX_TEXT = 50_000
"""Most characters of either text."""

_WORDS = re.compile(r"\s*(?:\w+|[^\w\s]|\Z)")


def word_diff(a: Any, b: Any) -> tuple[Markup, Markup] | None:
    """HTML of both values, with `<del>` around words only in `a` and `<ins>` around words only in `b`.

    None if a value is not in the log, if the texts have nothing in common, or if they exceed a limit.
    """
    if a is None or b is None or not_kept(a) or not_kept(b):
        return None
    texts = as_text(a), as_text(b)
    if max(map(len, texts)) > MAX_TEXT:
        return None
    left, right = ([word for word in _WORDS.findall(text) if word] for text in texts)
    start = _shared(left, right)
    end = _shared(left[start:][::-1], right[start:][::-1])
    inner_left, inner_right = left[start : len(left) - end], right[start : len(right) - end]
    if max(len(inner_left), len(inner_right)) > MAX_WORDS:
        return None
    counts = Counter(inner_left), Counter(inner_right)
    if sum(number * counts[1][word] for word, number in counts[0].items()) > MAX_PAIRS:
        return None
    changes = list(SequenceMatcher(None, inner_left, inner_right, autojunk=False).get_opcodes())
    if not start and not end and all(tag != "equal" for tag, *_ in changes):
        return None
    before, after = left[:start], left[len(left) - end :]
    return (
        _marked(before, after, "del", ((tag == "equal", inner_left[a1:a2]) for tag, a1, a2, _, _ in changes)),
        _marked(before, after, "ins", ((tag == "equal", inner_right[b1:b2]) for tag, _, _, b1, b2 in changes)),
    )


def _shared(left: list[str], right: list[str]) -> int:
    """Number of equal words at the beginning of both lists."""
    number = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        number += 1
    return number


def _marked(
    before: list[str], after: list[str], tag: Literal["del", "ins"], parts: Iterator[tuple[bool, list[str]]]
) -> Markup:
    html = _html(before)
    for same, words in parts:
        if words:
            html += _html(words) if same else Markup("<{}>{}</{}>").format(tag, _html(words), tag)
    return html + _html(after)


def _html(words: list[str]) -> Markup:
    return escape(visible("".join(words)))
