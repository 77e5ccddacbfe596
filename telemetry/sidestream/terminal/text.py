"""Text for a terminal: sanitized, measured in columns, truncated and wrapped."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator

MAX_TEXT = 20_000
"""Characters shown of one prompt, argument, result or output."""
MAX_ERROR = 300
"""Characters shown of an error's text on one line."""


# Control characters, bidirectional marks, separators at which some terminals break lines, and lone surrogates.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def sanitize(text: str, keep: str = "") -> str:
    """`text` with control and bidirectional characters as visible escapes, except the characters in `keep`."""
    return _HARMFUL.sub(lambda match: match[0] if match[0] in keep else _escape(match[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def sanitize_json(text: str) -> str:
    """JSON `text` with harmful characters as JSON escapes, which terminals ignore and which decode to equal values."""
    return _HARMFUL.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)


def one_line(value: object, limit: int = MAX_ERROR) -> str:
    """`value` as sanitized text without newlines, truncated to `limit` characters."""
    text = value if isinstance(value, str) else _dumps(value)
    text = sanitize(text[: limit * 2], keep="\n\r\t")
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit] + "..."


def paragraphs(value: object) -> str:
    """`value` as sanitized text with its newlines, truncated to `MAX_TEXT` characters."""
    text = value if isinstance(value, str) else _dumps(value)
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}... (+{len(text) - MAX_TEXT} characters)"
    return sanitize(text.replace("\r\n", "\n").replace("\t", "    "), keep="\n")


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)


# Characters of one column: common European letters, and the console's glyphs. rich measures any other text.
_SINGLE_WIDTH = re.compile("[ -~\xa0-\xac\xae-\u02ff\u0370-\u0482…→≥│✓✗↻▶Σ·─━█▏▎▍▌▋▊▉]*").fullmatch


def display_width(text: str) -> int:
    """Number of terminal columns that `text` takes."""
    if text.isascii() or _SINGLE_WIDTH(text):
        return len(text)
    from rich.cells import cell_len  # imported on first use: importing rich would slow the start of the exporters

    return cell_len(text)


def _fitting(text: str, start: int, width: int) -> int:
    """End index of the longest slice of `text` from `start` that takes at most `width` columns."""
    end = min(start + width, len(text))
    if text.isascii():
        return end
    while end < len(text) and display_width(text[start:end]) <= width:
        end = min(end + max(width, 1), len(text))  # combining characters have no width
    # The width never decreases with the length of the slice, so that bisection finds the last fitting index.
    return start - 1 + bisect_right(range(start, end + 1), width, key=lambda stop: display_width(text[start:stop]))


def truncate(text: str, width: int, more: str) -> str:
    """`text` truncated to at most `width` columns, ending in `more` if truncated."""
    if display_width(text) <= width:
        return text
    return text[: _fitting(text, 0, width - len(more))] + more if len(more) <= width else more[: max(width, 0)]


def wrap(line: str, width: int) -> Iterator[str]:
    """Pieces of `line` of at most `width` (2 or more) columns, broken at a space if one is in the second half."""
    start = 0
    while (end := _fitting(line, start, width)) < len(line):
        blank = line.rfind(" ", start, end + 1)
        if blank > (start + end) // 2:
            yield line[start:blank]
            start = blank + 1
        else:
            yield line[start:end]
            start = end
    yield line[start:]
