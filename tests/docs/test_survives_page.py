"""The page of what Sidestream survives: every line is numbered, and names the tests that carry its number."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from tests.support.paths import ROOT

PAGE = (ROOT / "docs/survives.md").read_text("utf-8")
LINES = {int(number): proof for number, proof in re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)}


def test_every_line_is_there_once() -> None:
    assert sorted(LINES) == list(range(1, 33))
    assert PAGE.count("\n| ") - PAGE.count("\n| | ") == len(LINES)


def marks_of(file: Path) -> dict[int, set[str]]:
    """By line of the page: the tests of `file` that carry its number, as the page names them."""
    name, found = file.relative_to(ROOT).as_posix(), defaultdict(set)
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            carriers, marks = name, ast.unparse(node.value)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            carriers, marks = f"{name}::{node.name}", " ".join(map(ast.unparse, node.decorator_list))
        else:
            continue
        for number in re.findall(r"\bscenario_(\d\d)\b", marks):
            found[int(number)].add(carriers)
    return found


def test_every_line_names_the_tests_that_carry_its_number() -> None:
    carried: dict[int, set[str]] = defaultdict(set)
    for file in (ROOT / "tests").rglob("test_*.py"):
        for number, carriers in marks_of(file).items():
            carried[number] |= carriers
    assert carried == {number: set(re.findall(r"`(tests/[\w/.:]+)`", proof)) for number, proof in LINES.items()}
