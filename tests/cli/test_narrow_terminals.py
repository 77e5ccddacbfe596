"""Tables and lines on narrow terminals: numbers stay whole, and matches stay visible."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidestream.terminal.text import display_width
from tests.support.command_line import invoke, on_terminal

pytestmark = pytest.mark.skipif("sys.platform == 'win32'", reason="needs pseudo-terminals")
WIDTHS = (40, 60, 80, 100)


def lines_of(*arguments: str, columns: int) -> list[str]:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", on_terminal(*arguments, columns=columns)).splitlines()


@pytest.mark.parametrize("columns", WIDTHS)
def test_runs_are_told_with_whole_costs_and_ids(log: Path, columns: int) -> None:
    wide = invoke("runs", log).stdout
    costs, ids = re.findall(r"≥?\$[\d.]+", wide), re.findall(r"\b([0-9a-f]{4}) +[✓✗!]", wide)
    lines = lines_of("runs", str(log), columns=columns)
    assert re.findall(r"≥?\$[\d.]+(?!…)", "\n".join(lines)) == costs
    assert re.findall(r"\b([0-9a-f]{4}) +[✓✗!]", "\n".join(lines)) == ids
    assert max(map(display_width, lines)) <= columns


@pytest.mark.parametrize("columns", WIDTHS)
def test_each_line_shows_the_match(log: Path, columns: int) -> None:
    lines = lines_of("search", "refund", str(log), columns=columns)
    assert len(lines) == len(invoke("search", "refund", log).stdout.splitlines())
    assert all("refund" in line for line in lines)
    assert max(map(display_width, lines)) <= columns


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_column_of_statistics_is_whole_or_not_there(log: Path, columns: int) -> None:
    heads = ["agent", "runs", "cost", "p50", "other outcomes"]
    (head,) = [line for line in lines_of("stats", str(log), "--by", "agent", columns=columns) if "p50" in line]
    assert [word for word in heads if word in head] == (heads if columns > 50 else heads[:-1])
