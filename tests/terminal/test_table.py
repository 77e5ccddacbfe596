"""Tables that fit a terminal."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidestream.terminal.layout import ASCII, DIM, Layout
from sidestream.terminal.table import Styled, table_lines
from sidestream.terminal.text import display_width

ROWS = [
    {"name": "a long name of an agent", "number": "1,204", "notes": "something"},
    {"name": "作家", "number": "7", "notes": ""},
]


def test_columns_are_aligned_and_numbers_end_together() -> None:
    assert list(table_lines(Layout(), ROWS, right=("number",))) == [
        "name                     number  notes",
        "a long name of an agent   1,204  something",
        "作家                          7",
    ]


def test_where_there_is_no_room_spare_columns_go_first_then_elastic_ones_are_cut() -> None:
    def shown(width: int) -> list[str]:
        return list(table_lines(Layout(width), ROWS, right=("number",), elastic=("name",), spare=("notes",)))

    assert shown(40)[1] == "a long name of an a…   1,204  something"
    assert shown(28)[:2] == ["name                 number", "a long name of an …   1,204"]


def test_colours_change_no_width() -> None:
    rows: list[Any] = [{"a": Styled("x", "32"), "b": [Styled("1 lost", "1;31"), Styled(", "), Styled("2 ok", DIM)]}]
    (_, plain), (_, painted) = (list(table_lines(Layout(color=color), rows)) for color in (False, True))
    assert plain == "x  1 lost, 2 ok"
    assert painted == "\x1b[32mx\x1b[0m  \x1b[1;31m1 lost\x1b[0m, \x1b[2m2 ok\x1b[0m"


def test_a_cell_of_several_colours_is_cut_as_one() -> None:
    rows = [{"b": [Styled("1 lost", "1;31"), Styled(", "), Styled("12 cancelled", DIM)]}]
    layout = Layout(14, glyphs=ASCII)
    assert list(table_lines(layout, rows, elastic=("b",)))[1] == "1 lost, 12..."


cells = st.fixed_dictionaries({"n": st.text("ab 巴", max_size=60), "m": st.text("c", max_size=30)})


@given(st.lists(cells, min_size=1), st.integers(8, 100))
def test_elastic_columns_never_exceed_the_terminal(rows: list[dict[str, str]], width: int) -> None:
    lines = list(table_lines(Layout(width), rows, elastic=("n", "m")))
    assert max(map(display_width, lines)) < width
    assert len(lines) == len(rows) + 1
