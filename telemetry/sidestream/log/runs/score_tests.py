"""Test of a run's score, as in `--score 'quality<0.5'`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from sidestream.errors import ConfigurationError

if TYPE_CHECKING:
    from sidestream.log.index.parts import ScoreFacts

Comparison: TypeAlias = Literal["<", "<=", ">", ">=", "="]

_COMPARED: dict[Comparison, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}
_WORDS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTest:
    """Test of a run's latest score of a name. Without a comparison, the score only has to exist."""

    name: str
    comparison: Comparison | None = None
    number: float | None = None
    label: str | None = None
    """Expected label. A word that is a number, such as `1` or `true`, is compared with the label and with the value."""

    @classmethod
    def parse(cls, text: str) -> ScoreTest:
        """Parse a test: `quality<0.5`, `quality>=1`, `helpful=true`, `verdict=pass`, or `quality`.

        Raises `ConfigurationError` for invalid text.
        """
        found = re.fullmatch(r"\s*([^<>=]+?)\s*(?:(<=|>=|<|>|=)\s*(.+?)\s*)?", text)
        if found is None:
            raise ConfigurationError(f"score {text!r}: write NAME, NAME=LABEL, or NAME<0.5 (also <=, >, >=, =)")
        name, comparison, wanted = found.groups()
        if comparison is None:
            return cls(name=name)
        try:
            number = _WORDS[wanted.lower()] if wanted.lower() in _WORDS else float(wanted)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            if comparison != "=":
                raise ConfigurationError(f"score {text!r}: {wanted!r} is no number")
            return cls(name=name, comparison="=", label=wanted)
        label = wanted if comparison == "=" else None
        return cls(name=name, comparison=cast(Comparison, comparison), number=number, label=label)

    def matches(self, scores: Iterable[ScoreFacts]) -> bool:
        """Whether `scores`, the latest of each name, contain the score and it passes the test."""
        score = next((each for each in scores if each.name == self.name), None)
        if score is None or self.comparison is None:
            return score is not None
        if self.label is not None and score.label == self.label:
            return True
        if self.number is None or score.number is None:
            return False
        return _COMPARED[self.comparison](score.number, self.number)
