"""The page of what Sidestream survives: every line is numbered, and every test that it names is there."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

PAGE = (ROOT / "docs/survives.md").read_text("utf-8")
LINES = {int(number): proof for number, proof in re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)}


def test_every_line_is_there_once() -> None:
    assert sorted(LINES) == list(range(1, 33))
    assert PAGE.count("\n| ") - PAGE.count("\n| | ") == len(LINES)


def test_every_proof_is_there() -> None:
    for number, proof in LINES.items():
        named = re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", proof)
        assert named, number
        for path, test in named:
            text = (ROOT / path).read_text("utf-8")
            assert not test or f"def {test}(" in text, f"{number}: no {test} in {path}"
