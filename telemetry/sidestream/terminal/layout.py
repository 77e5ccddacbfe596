"""Layout of a terminal line: glyphs, colours, and cells in a row that fits the width."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sidestream.events import Verdict, verdict_of

from .numbers import humanize_count, humanize_usd
from .text import display_width, truncate


class Glyphs(NamedTuple):
    start: str
    going: str
    ok: str
    fault: str
    caller: str
    again: str
    note: str
    total: str
    bar: str
    to: str
    at_least: str
    more: str


UNICODE = Glyphs("▶", "…", "✓", "✗", "!", "↻", "·", "Σ", "│", "→", "≥", "…")
ASCII = Glyphs(">", ".", "+", "x", "!", "~", "-", "=", "|", "->", ">=", "...")

DIM, BOLD, RED, GREEN, YELLOW = "2", "1", "1;31", "32", "33"
VERDICT_STYLES: dict[Verdict, str] = {"ok": GREEN, "neutral": DIM, "caller": YELLOW, "fault": RED}
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

    @cached_property
    def wide(self) -> bool:
        return self.width is None or self.width >= 120

    @cached_property
    def gap(self) -> int:
        return 2 if self.wide else 1

    @cached_property
    def label(self) -> int:
        return 22 if self.wide else 15

    @cached_property
    def indent(self) -> int:
        """Columns before the text of a content line: time, label, bar."""
        return TIME + self.label + 1 + 3 * self.gap

    @cached_property
    def room(self) -> int:
        """Columns of a line: the last one stays empty, for some terminals break there."""
        return self.width - 1 if self.width else sys.maxsize

    # --- rows ---

    def row(self, cells: Iterable[Cell]) -> str:
        """One line of `cells`, each padded to its width; what has no room is cut or left out."""
        shown: list[str] = []
        color, gap = self.color, self.gap
        left, pad = self.room, 0
        for text, style, width, elastic in cells:
            columns = len(text) if text.isascii() else display_width(text)
            if columns > left - pad:
                text = truncate(text, left - pad, self.glyphs.more) if elastic else ""
                if not text:
                    break
                columns = display_width(text)
            if text:
                if pad:
                    shown.append(" " * pad)
                shown.append(f"\x1b[{style}m{text}\x1b[0m" if color and style else text)
                left -= pad + columns
                pad = 0
            if text or width:
                pad += gap + (width - columns if width > columns else 0)
        return "".join(shown)

    def fits(self, cells: Sequence[Cell]) -> bool:
        """Whether `row(cells)` would show all of them whole."""
        gaps = self.gap * (len(cells) - 1)
        return sum(max(display_width(cell.text), cell.width) for cell in cells) + gaps <= self.room

    def paint(self, text: str, style: str) -> str:
        """`text` in a colour, where the output has any."""
        return f"\x1b[{style}m{text}\x1b[0m" if self.color and style else text

    # --- what is the same in every line ---

    def verdict(self, outcome: str | None) -> tuple[str, str]:
        """Glyph and colour of an outcome, by its verdict alone."""
        if outcome == "running":
            return self.glyphs.going, DIM
        return self._verdicts[verdict_of(outcome)]

    @cached_property
    def _verdicts(self) -> dict[Verdict, tuple[str, str]]:
        glyphs: dict[Verdict, str] = {
            "ok": self.glyphs.ok,
            "neutral": self.glyphs.note,
            "caller": self.glyphs.caller,
            "fault": self.glyphs.fault,
        }
        return {verdict: (glyph, VERDICT_STYLES[verdict]) for verdict, glyph in glyphs.items()}

    def tokens(self, sent: int | None, got: int | None, *, at_least: bool = False) -> str:
        """Input and output tokens, `1.2k→86`; empty where neither is known, and marked where it is a lower bound."""
        if sent is None and got is None:
            return ""
        mark = self.glyphs.at_least if at_least else ""
        return f"{mark}{humanize_count(sent) or '?'}{self.glyphs.to}{humanize_count(got) or '?'}"

    def cost(self, usd: float | None, *, at_least: bool = False) -> str:
        """US dollars; empty where unknown, and marked where it is a lower bound."""
        return "" if usd is None else f"{self.glyphs.at_least if at_least else ''}{humanize_usd(usd)}"
