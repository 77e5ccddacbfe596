"""Layout of a terminal line: glyphs, colours, and cells in a row that fits the width."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .text import display_width, truncate


class Glyphs(NamedTuple):
    start: str
    going: str
    ok: str
    bad: str
    again: str
    note: str
    total: str
    bar: str
    to: str
    at_least: str
    more: str


UNICODE = Glyphs("▶", "…", "✓", "✗", "↻", "·", "Σ", "│", "→", "≥", "…")
ASCII = Glyphs(">", ".", "+", "x", "~", "-", "=", "|", "->", ">=", "...")

DIM, BOLD, RED, GREEN, YELLOW = "2", "1", "1;31", "32", "33"
TIME = len("12:34:56")


class Cell(NamedTuple):
    text: str
    style: str = ""
    width: int = 0
    elastic: bool = False
    """May be cut; others are shown whole or not at all, for half a number misleads."""


@dataclass(frozen=True)
class Layout:
    """Layout of lines for an output: its columns, colours and glyphs. Without a `width` (columns) nothing is cut."""

    width: int | None = None
    color: bool = False
    glyphs: Glyphs = UNICODE

    @property
    def wide(self) -> bool:
        return self.width is None or self.width >= 120

    @property
    def gap(self) -> int:
        return 2 if self.wide else 1

    @property
    def label(self) -> int:
        return 22 if self.wide else 15

    @property
    def indent(self) -> int:
        """Columns before the text of a content line: time, label, bar."""
        return TIME + self.label + 1 + 3 * self.gap

    @property
    def room(self) -> int:
        """Columns of a line: the last one stays empty, for some terminals break there."""
        return self.width - 1 if self.width else sys.maxsize

    def row(self, cells: Iterable[Cell]) -> str:
        """One line of `cells`, each padded to its width; what has no room is cut or left out."""
        shown: list[str] = []
        used = pad = 0
        for text, style, width, elastic in cells:
            room = self.room - used - pad
            if display_width(text) > room:
                text = truncate(text, room, self.glyphs.more) if elastic else ""
                if not text:
                    break
            if text:
                shown.append(" " * pad + self.paint(text, style))
                used += pad + display_width(text)
                pad = 0
            if text or width:
                pad += max(width - display_width(text), 0) + self.gap
        return "".join(shown)

    def fits(self, cells: Sequence[Cell]) -> bool:
        """Whether `row(cells)` would show all of them whole."""
        gaps = self.gap * (len(cells) - 1)
        return sum(max(display_width(cell.text), cell.width) for cell in cells) + gaps <= self.room

    def paint(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.color and style else text
