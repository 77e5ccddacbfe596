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
    """Whether the text may be truncated. Other cells are shown whole or left out, since a truncated number misleads."""


@dataclass(frozen=True)
class Layout:
    """Width, colours and glyphs of an output. A `width` of None (no terminal) never truncates."""

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
        """Columns before the text of a content line, taken by time, label and bar."""
        return TIME + self.label + 1 + 3 * self.gap

    @cached_property
    def room(self) -> int:
        """Usable columns of a line; the last one stays empty, since some terminals wrap there."""
        return self.width - 1 if self.width else sys.maxsize

    # --- rows ---

    def row(self, cells: Iterable[Cell]) -> str:
        """Line of `cells`, each padded to its width. Cells beyond the room are truncated or left out."""
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
        """Whether `row(cells)` shows every cell whole."""
        gaps = self.gap * (len(cells) - 1)
        return sum(max(display_width(cell.text), cell.width) for cell in cells) + gaps <= self.room

    def paint(self, text: str, style: str) -> str:
        """`text` in the given style; unchanged without colours."""
        return f"\x1b[{style}m{text}\x1b[0m" if self.color and style else text

    # --- outcome, tokens and cost ---

    def verdict(self, outcome: str | None) -> tuple[str, str]:
        """Glyph and style of an outcome, by its verdict."""
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
        """Input and output tokens, `1.2k→86`, marked with `≥` if a lower bound; empty if both are unknown."""
        if sent is None and got is None:
            return ""
        mark = self.glyphs.at_least if at_least else ""
        return f"{mark}{humanize_count(sent) or '?'}{self.glyphs.to}{humanize_count(got) or '?'}"

    def cost(self, usd: float | None, *, at_least: bool = False) -> str:
        """Cost in US dollars, marked with `≥` if a lower bound; empty if unknown."""
        return "" if usd is None else f"{self.glyphs.at_least if at_least else ''}{humanize_usd(usd)}"
