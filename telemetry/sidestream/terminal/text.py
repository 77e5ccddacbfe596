"""Text for a terminal: sanitized, measured in columns, truncated and wrapped."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator

MAX_TEXT = 20_000
"""Characters shown of one prompt, argument, result or output."""
MAX_ERROR = 300
"""Characters shown of an error's text in a line of its own, where no terminal is narrower."""


# Control characters, marks that reorder what is read, separators some terminals break at, and lone surrogates.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def sanitize(text: str, keep: str = "") -> str:
    """`text` with all that could steer a terminal written as visible escapes, except the characters in `keep`."""
    return _HARMFUL.sub(lambda match: match[0] if match[0] in keep else _escape(match[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def sanitize_json(text: str) -> str:
    """JSON `text` with the same characters as JSON's own escapes: no terminal obeys them, and the value is the same."""
    return _HARMFUL.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)


def one_line(value: object, limit: int = MAX_ERROR) -> str:
    """`value` as harmless text without newlines, at most `limit` characters of it."""
    text = value if isinstance(value, str) else _dumps(value)
    text = sanitize(text[: limit * 2], keep="\n\r\t")
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit] + "..."


def paragraphs(value: object) -> str:
    """`value` as harmless text with its newlines, at most `MAX_TEXT` characters of it."""
    text = value if isinstance(value, str) else _dumps(value)
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}... (+{len(text) - MAX_TEXT} characters)"
    return sanitize(text.replace("\r\n", "\n").replace("\t", "    "), keep="\n")


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)


# One column each: the usual letters of Europe, and the glyphs of our own lines. Everything else is looked up by rich.
_SINGLE_WIDTH = re.compile("[ -~\xa0-\xac\xae-\u02ff\u0370-\u0482…→≥│✓✗↻▶Σ·─━█▏▎▍▌▋▊▉]*").fullmatch


def display_width(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    if text.isascii() or _SINGLE_WIDTH(text):
        return len(text)
    from rich.cells import cell_len  # imported when first needed, for it is no part of the exporters' start

    return cell_len(text)


def _fitting(text: str, start: int, width: int) -> int:
    """Index at which the longest part of `text` ends that begins at `start` and takes at most `width` columns."""
    end = min(start + width, len(text))
    if text.isascii():
        return end
    while end < len(text) and display_width(text[start:end]) <= width:
        end = min(end + max(width, 1), len(text))  # combining marks take no column
    # The width of a part never falls as the part grows, so that where it grows too wide can be found by halving.
    return start - 1 + bisect_right(range(start, end + 1), width, key=lambda stop: display_width(text[start:stop]))


def truncate(text: str, width: int, more: str) -> str:
    """`text` in at most `width` columns, ending in `more` where something is left out."""
    if display_width(text) <= width:
        return text
    return text[: _fitting(text, 0, width - len(more))] + more if len(more) <= width else more[: max(width, 0)]


def wrap(line: str, width: int) -> Iterator[str]:
    """`line` in pieces of at most `width` (2 or more) columns, broken at a blank if one is in the second half."""
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
