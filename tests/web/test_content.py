"""Content on the pages: safe Markdown, collapsible JSON, media by type and size."""

from __future__ import annotations

import json
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidestream.web.content import json_tree, media_within, pieces
from sidestream.web.markdown import MAX_TEXT, MarkdownRenderer
from tests.support.web_client import client_of
from tests.support.web_log import MARKDOWN, RICH, rich_run

HARMLESS = {"p", "h4", "h5", "h6", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "blockquote", "hr"}
HARMLESS |= {"pre", "code", "em", "strong", "s", "a", "br"}
MARKS = "*_`#>|-+~[](){}!<&:\\\"' \n\t1.ab"
texts = st.text(st.sampled_from(MARKS), max_size=60) | st.text(max_size=40).map(lambda text: f"**{text}**")
links = st.sampled_from(
    ["javascript:alert(1)", "JaVaScRiPt&#58;alert(1)", "data:text/html,x", "file:///etc", "vbscript:x"]
)


class Tags(HTMLParser):
    """Parser that collects tags and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(str(html))  # `str`, since operations on `Markup` would escape again

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


class TestMarkdown:
    def test_is_rendered_below_the_headings_of_the_page(self) -> None:
        html = MarkdownRenderer()(MARKDOWN)
        assert html is not None
        assert "<h4>Your order</h4>" in html
        assert "<strong>Monday</strong>" in html
        assert '<a href="https://example.com/track" rel="noopener noreferrer nofollow">its way</a>' in html
        assert "<td>39.00</td>" in html, "a style would be forbidden by the security policy"
        assert '<pre><code class="language-python">total = 39' in html

    @given(texts, links)
    def test_does_no_harm(self, text: str, link: str) -> None:
        for written in (text, f"{text}\n\n[x]({link}) ![y]({link}) <{link}> <img src=x onerror=y> *z*"):
            tags = Tags(MarkdownRenderer()(written) or "").found
            for tag, attributes in tags:
                assert tag in HARMLESS
                assert set(attributes) <= {"href", "title", "rel", "class", "start"}
                target = (attributes.get("href") or "").lower()
                assert not target.startswith(("javascript:", "data:", "file:", "vbscript:"))

    @pytest.mark.parametrize(
        "text", ["", "Plain words.\n\nOf two paragraphs, 1.5 of them.", "a*b", "x" * MAX_TEXT + "*y*"]
    )
    def test_is_left_where_there_is_none_or_too_much(self, text: str) -> None:
        assert MarkdownRenderer()(text) is None

    def test_takes_a_bounded_time_for_a_page(self) -> None:
        render = MarkdownRenderer(limit=20)
        assert render("**twelve** ch") is not None
        assert render("**twelve** ch") is None

    def test_characters_that_turn_text_around_are_visible(self) -> None:
        assert MarkdownRenderer()("**a\u202eb\x1b**\r\n") == "<p><strong>a\\u202eb\\x1b</strong></p>\n"


plain = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=12)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner))


class TestJson:
    @given(values, st.integers(0, 4))
    def test_the_text_of_a_tree_is_the_json(self, value: Any, levels: int) -> None:
        tree = json_tree([value, "x" * 80], levels)
        assert tree is not None
        assert json.loads(Tags(tree).text) == [value, "x" * 80]

    def test_short_and_very_large_json_is_text(self) -> None:
        assert json_tree({"a": 1}, 3) is None
        assert json_tree("x" * 200, 3) is None
        assert json_tree(list(range(1_000)), 3) is None

    def test_deep_json_does_not_fail(self) -> None:
        deep: Any = "x" * 80
        for _ in range(100):
            deep = [deep]
        tree = json_tree(deep, 3)
        assert tree is not None
        assert json.loads(Tags(tree).text) == deep


class TestMedia:
    @pytest.mark.parametrize(
        ("value", "told"),
        [
            ({"kind": "binary", "media_type": "image/png", "bytes": 6301}, "image/png 6.3 kB"),
            ({"kind": "bytes", "bytes": 12}, "bytes 12 B"),
            ({"kind": "data-url", "media_type": "audio/wav", "bytes": 2_500_000}, "audio/wav 2.5 MB"),
            ({"kind": "image-url", "url": "https://example.com/a.png"}, "image https://example.com/a.png"),
            ({"mimeType": "image/gif", "data": {"kind": "base64", "bytes": 99}}, "image/gif 99 B"),
            (
                {"kind": "image-url", "url": {"kind": "data-url", "media_type": "image/png", "bytes": 5}},
                "image/png 5 B",
            ),
        ],
    )
    def test_by_type_and_size(self, value: Any, told: str) -> None:
        assert [str(media) for media in media_within({"deep": [value]})] == [told]
        assert [kind for kind, _ in pieces(["Look:", value])] == ["text", "media"]

    @given(values)
    def test_any_value_is_told_in_pieces(self, value: Any) -> None:
        for kind, piece in pieces(value):
            assert kind in ("text", "json", "media")
            assert isinstance(piece, str) == (kind == "text") or kind == "json"

    def test_on_the_page(self, tmp_path: Path) -> None:
        (tmp_path / "log.jsonl").write_bytes(rich_run())
        text = unescape(client_of(tmp_path).get(f"/runs/{RICH}").text)
        for told in ("image/png 6.3 kB", "image https://example.com/bag.jpg", "application/pdf 120 kB"):
            assert told in text
        assert 'base64"' in text, "the tool's result, as JSON"
