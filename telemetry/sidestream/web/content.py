"""Display of logged content: texts, collapsible JSON, and media by type and size."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from markupsafe import Markup, escape

from sidestream.events import Json
from sidestream.terminal.numbers import counted, humanize_bytes
from sidestream.terminal.text import sanitize_json

MAX_NODES = 500
"""Most values in a collapsible JSON tree, one HTML element each; larger JSON is shown as text."""
MAX_DEPTH = 40
MAX_CHIPS = 20
"""Most media listed before the JSON that holds them."""
SHORT = 80
"""Longest JSON, in characters, that is shown on one line."""

Kind: TypeAlias = Literal["text", "json", "media"]


class Media(NamedTuple):
    """Image, audio or document, by its type."""

    kind: str
    """Media type, or kind of URL."""
    detail: str
    """Size or URL, shortened for display."""
    url: str | None = None
    """Link target; None for embedded media, whose content is not logged."""

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}".strip()


def pieces(value: Json) -> Iterator[tuple[Kind, Any]]:
    """Parts of `value` for display, by kind: a prompt may mix texts and media."""
    if isinstance(value, str):
        yield "text", value
    elif (media := media_of(value)) is not None:
        yield "media", [media]
    elif isinstance(value, list) and value and all(isinstance(each, str) or media_of(each) for each in value):
        for each in value:
            yield from pieces(each)
    else:
        if within := list(media_within(value)):
            yield "media", within[:MAX_CHIPS]
        yield "json", value


def media_of(value: Json) -> Media | None:
    """Media that the logged `value` describes; None for any other value. A log never holds the media's content."""
    if not isinstance(value, Mapping):
        return None
    kind, size, url = value.get("kind"), value.get("bytes"), value.get("url")
    data = value.get("data")
    if isinstance(data, Mapping) and data.get("kind") == "base64":
        size = data.get("bytes")
        kind = next((value[name] for name in ("media_type", "mime_type", "mimeType") if name in value), "data")
        return Media(str(kind), _size(size))
    if isinstance(url, Mapping):  # the description of a `data:` URL in place of the URL
        return media_of(url)
    if not isinstance(kind, str):
        return None
    if isinstance(url, str) and kind.endswith("-url"):
        return Media(kind.removesuffix("-url"), url if len(url) <= SHORT else f"{url[:SHORT]}…", url)
    if isinstance(size, int) and (kind in ("bytes", "base64") or isinstance(value.get("media_type"), str)):
        return Media(str(value.get("media_type", kind)), _size(size))
    return None


def media_within(value: Json, depth: int = 0) -> Iterator[Media]:
    """Media at any depth of `value`, down to `MAX_DEPTH`."""
    if (media := media_of(value)) is not None:
        yield media
    elif depth < MAX_DEPTH and isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from media_within(each, depth + 1)


def _size(size: object) -> str:
    return humanize_bytes(size) if isinstance(size, int) else ""


def json_tree(value: Json, open_to: int) -> Markup | None:
    """Collapsible HTML of JSON, expanded down to `open_to` levels; None for scalars, short or too large JSON.

    The text content of the HTML is the JSON, so that a copied selection is valid.
    """
    if not isinstance(value, dict | list) or len(json.dumps(value, ensure_ascii=False)) <= SHORT:
        return None
    tree = _Tree(open_to)
    tree.add(value, "", "", 0)
    return None if tree.nodes > MAX_NODES else Markup("".join(tree.html))


class _Tree:
    def __init__(self, open_to: int) -> None:
        self.html: list[str] = []
        self.nodes = 0
        self._open_to = open_to

    def add(self, value: Json, name: str, comma: str, depth: int) -> None:
        """Add `value` under the escaped `name`, with `comma` unless `value` is the last item."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            return
        if not isinstance(value, dict | list) or not value or depth > MAX_DEPTH:
            self.html.append(f"<div>{name}{_leaf(value)}{comma}</div>\n")
            return
        is_object = isinstance(value, dict)
        opening, closing = "{}" if is_object else "[]"
        size = counted(len(value), "key" if is_object else "item")
        self.html.append(f"<details{' open' if depth < self._open_to else ''}>")
        self.html.append(f'<summary data-more="{size} {closing}">{name}{opening}</summary>\n<div class="within">\n')
        items = (
            [(f"<i>{_leaf(key)}</i>: ", each) for key, each in value.items()]
            if isinstance(value, dict)
            else [("", each) for each in value]
        )
        for number, (key, each) in enumerate(items, 1):
            self.add(each, key, "," if number < len(items) else "", depth + 1)
        self.html.append(f"</div>{closing}{comma}</details>\n")


def _leaf(value: Json) -> str:
    return str(escape(sanitize_json(json.dumps(value, ensure_ascii=False))))
