"""Output of a benchmark: tables of ratios with their spread, and progress."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Median of the rounds, with the quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        return cls(statistics.median(values), low, high)

    @classmethod
    def of_pairs(cls, a: Sequence[float], b: Sequence[float], combine: Callable[[float, float], float]) -> Spread:
        """Spread of `combine(a, b)` by round. A disturbance within a round affects both values, and mostly cancels."""
        return cls.of([combine(x, y) for x, y in zip(a, b, strict=True)])

    def show(self, digits: int) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}…{self.high:.{digits}f})"


def ratio(a: float, b: float) -> float:
    """Ratio of `b` to `a`; NaN if `a` is zero."""
    return b / a if a else float("nan")


def verdict(*held: bool) -> str:
    """Verdict on a goal whose conditions all have to hold."""
    return "held" if all(held) else "MISSED"


Cell = str | int | float | Spread | None


@dataclass
class Table:
    """Table whose lines map column names to values."""

    title: str
    goal: str = ""
    digits: dict[str, int] = field(default_factory=dict)
    """Number of decimals by column; default 2."""
    lines: list[dict[str, Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, **cells: Cell) -> None:
        self.lines.append({name.replace("_", " ").strip(): cell for name, cell in cells.items()})

    def note(self, text: str) -> None:
        """Add a line below the table, once."""
        if text not in self.notes:
            self.notes.append(text)

    def render(self) -> str:
        columns = list(dict.fromkeys(name for line in self.lines for name in line))
        rows = [columns, *([self._show(name, line.get(name)) for name in columns] for line in self.lines)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
        text = [f"\n{self.title}"]
        text += [f"goal: {self.goal}"] if self.goal else []
        for row in rows if columns else []:
            first, *rest = (
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            text.append("  ".join([first, *rest]).rstrip())
        return "\n".join([*text, *(f"- {note}" for note in self.notes)])

    def plain(self) -> dict[str, Any]:
        """Table as JSON data."""
        lines = [{name: _plain(cell) for name, cell in line.items()} for line in self.lines]
        return {"title": self.title, "goal": self.goal, "lines": lines, "notes": self.notes}

    def _show(self, column: str, cell: Cell) -> str:
        digits = self.digits.get(column, 2)
        match cell:
            case None:
                return "–"
            case Spread():
                return cell.show(digits)
            case float():
                return f"{cell:.{digits}f}"
            case int():
                return f"{cell:,}"
            case _:
                return str(cell)


def _plain(cell: Cell) -> Any:
    if isinstance(cell, Spread):
        return {"median": cell.median, "low": cell.low, "high": cell.high}
    return cell


def progress(text: str) -> None:
    """Print one line to stderr; stdout has the tables only."""
    print(text, file=sys.stderr, flush=True)
