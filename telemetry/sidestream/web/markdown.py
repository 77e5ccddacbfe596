"""Markdown of answers and prompts as HTML, safely: no HTML of theirs, no picture, no style, no address of a script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from sidestream.terminal.text import sanitize

MAX_TEXT = 20_000
"""Characters of a text beyond which it is shown as it stands: some texts take time that grows with the square."""
MAX_PAGE = 100_000
"""Characters that are rendered for one page: some 0.3 s."""
HEADING = 3
"""Level of a page's heading above an answer: the answer's own begin below."""

_MARKS = re.compile(r"[*_`\[<|#>~]|^\s*(?:[-+*]|\d+[.)])\s|^\s*(?:---|===)|^(?: {4}|\t)| {2}$|\\$", re.MULTILINE)
_PLAIN = frozenset({"paragraph_open", "paragraph_close", "inline", "text", "softbreak"})


class MarkdownRenderer:
    """Renders the texts of one page, until that would take too long."""

    def __init__(self, limit: int = MAX_PAGE) -> None:
        self._left = limit

    def __call__(self, text: str) -> Markup | None:
        """`text` as HTML; None where it has no Markdown in it, or is too long."""
        if len(text) > min(MAX_TEXT, self._left) or not _MARKS.search(text):
            return None
        self._left -= len(text)
        tokens = _parser().parse(sanitize(text, keep="\n\r\t"))
        every = [*tokens, *(child for token in tokens for child in token.children or ())]
        if _PLAIN.issuperset(token.type for token in every):
            return None
        _tame(every)
        return Markup(_parser().renderer.render(tokens, _parser().options, {}))


@cache
def _parser() -> MarkdownIt:
    # An address of `javascript:`, `file:` and the like makes no link, and a picture is a link to it.
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")


def _tame(tokens: Sequence[Token]) -> None:
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + HEADING)}"
        elif token.type == "link_open":
            token.attrSet("rel", "noopener noreferrer nofollow")
        elif token.type in ("th_open", "td_open"):
            token.attrs.pop("style", None)  # which the security policy forbids
