"""Tables for a terminal: aligned columns without rules, fitted to the width."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from .layout import DIM, Layout
from .text import display_width, truncate


class Styled(NamedTuple):
    """Text in one colour."""

    text: str
    style: str = ""


TableCell: TypeAlias = str | Styled | Sequence[Styled]
"""Cell: plain text, styled text, or several styled texts side by side. The caller sanitizes the text."""

GAP = 2
"""Spaces between two columns."""
LEAST = 10
"""Narrowest width of an elastic column while spare columns can still be left out."""


def table_lines(
    layout: Layout,
    rows: Sequence[Mapping[str, TableCell]],
    *,
    right: Collection[str] = (),
    elastic: Collection[str] = (),
    spare: Iterable[str] = (),
) -> Iterator[str]:
    """Lines of a table: a header of the rows' keys, then one line for each row.

    Args:
        layout: Layout of the output. Without a width, nothing is truncated or left out.
        rows: Cells by column name; at least one row, and equal columns in each.
        right: Right-aligned columns.
        elastic: Columns that may be truncated. Others are shown whole, since a truncated number misleads.
        spare: Columns to leave out if the table is too wide, in this order.
    """
    head: dict[str, TableCell] = {name: Styled(name, DIM) for name in rows[0]}
    widths = {name: max(_width(row[name]) for row in (head, *rows)) for name in head}
    if layout.width is not None:
        _fit(widths, layout.room, elastic, spare)
    for row in (head, *rows):
        yield "".join(_line(layout, row, widths, right)).rstrip()


def _fit(widths: dict[str, int], room: int, elastic: Collection[str], spare: Iterable[str]) -> None:
    """Reduce `widths` to `room`: spare columns go until elastic ones keep their minimum, then elastic ones shrink."""
    least = {name: max(LEAST, display_width(name)) for name in elastic}

    def excess() -> int:
        needed = (min(width, least.get(name, width)) for name, width in widths.items())
        return sum(needed) + GAP * (len(widths) - 1) - room

    for name in spare:
        if excess() <= 0:
            break
        widths.pop(name, None)
    over = sum(widths.values()) + GAP * (len(widths) - 1) - room
    shrinking = [name for name in widths if name in elastic]
    for _ in range(over):
        widest = max(shrinking, key=widths.__getitem__, default="")
        if not widest or widths[widest] <= 1:
            break
        widths[widest] -= 1


def _line(
    layout: Layout, row: Mapping[str, TableCell], widths: Mapping[str, int], right: Collection[str]
) -> Iterator[str]:
    for number, (name, width) in enumerate(widths.items()):
        shown = list(_cut(_spans(row[name]), width, layout.glyphs.more))
        blanks = " " * (width - sum(display_width(span.text) for span in shown))
        painted = "".join(layout.paint(span.text, span.style) for span in shown)
        yield " " * GAP if number else ""
        yield blanks + painted if name in right else painted + blanks


def _spans(cell: TableCell) -> Sequence[Styled]:
    return [Styled(cell)] if isinstance(cell, str) else [cell] if isinstance(cell, Styled) else cell


def _width(cell: TableCell) -> int:
    return sum(display_width(span.text) for span in _spans(cell))


def _cut(spans: Sequence[Styled], width: int, more: str) -> Iterator[Styled]:
    """`spans` truncated to at most `width` columns."""
    if sum(display_width(span.text) for span in spans) <= width:
        yield from spans
        return
    for span in spans:
        columns = display_width(span.text)
        if columns > width - display_width(more):
            yield Styled(truncate(span.text + more, width, more), span.style)
            return
        yield span
        width -= columns
