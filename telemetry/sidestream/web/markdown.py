"""Safe rendering of Markdown in answers and prompts: no raw HTML, images, styles or `javascript:` links."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from sidestream.terminal.text import sanitize

MAX_TEXT = 20_000
"""Longest text, in characters, that is rendered; the parser takes quadratic time for some texts."""
MAX_PAGE = 100_000
"""Characters rendered per page (about 0.3 s); further texts are shown unrendered."""
HEADING = 3
"""Level of the page's heading above an answer; headings within the answer start one level below."""

_MARKS = re.compile(r"[*_`\[<|#>~]|^\s*(?:[-+*]|\d+[.)])\s|^\s*(?:---|===)|^(?: {4}|\t)| {2}$|\\$", re.MULTILINE)
_PLAIN = frozenset({"paragraph_open", "paragraph_close", "inline", "text", "softbreak"})


class MarkdownRenderer:
    """Renderer for the texts of one page, up to a total of `limit` characters."""

    def __init__(self, limit: int = MAX_PAGE) -> None:
        self._left = limit

    def __call__(self, text: str) -> Markup | None:
        """HTML of `text`; None if `text` contains no Markdown, or exceeds a limit."""
        if len(text) > min(MAX_TEXT, self._left) or not _MARKS.search(text):
            return None
        self._left -= len(text)
        tokens = _parser().parse(sanitize(text, keep="\n\r\t"))
        every = [*tokens, *(child for token in tokens for child in token.children or ())]
        if _PLAIN.issuperset(token.type for token in every):
            return None
        _restrict(every)
        return Markup(_parser().renderer.render(tokens, _parser().options, {}))


@cache
def _parser() -> MarkdownIt:
    # markdown-it does not link `javascript:`, `file:` and similar URLs; with images disabled, they become links.
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")


def _restrict(tokens: Sequence[Token]) -> None:
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + HEADING)}"
        elif token.type == "link_open":
            token.attrSet("rel", "noopener noreferrer nofollow")
        elif token.type in ("th_open", "td_open"):
            token.attrs.pop("style", None)  # the content security policy blocks inline styles
