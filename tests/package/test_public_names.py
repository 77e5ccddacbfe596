"""The names that users may rely on: those that are documented, and no others."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import sidestream
from tests.support.paths import ROOT

PAGE = ROOT / "docs/events.md"


def documented() -> list[str]:
    section = PAGE.read_text("utf-8").partition("\n## Public names\n")[2]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_the_public_names_are_the_documented_ones() -> None:
    """Each once, in the list at the end of docs/events.md."""
    assert sorted(documented()) == sorted(sidestream.__all__)


def test_every_public_name_is_there() -> None:
    assert {name for name in sidestream.__all__ if not hasattr(sidestream, name)} == set()


def test_every_public_class_and_function_says_what_it_is() -> None:
    undocumented = [
        name
        for name in sidestream.__all__
        if inspect.isclass(thing := getattr(sidestream, name)) or inspect.isfunction(thing)
        if not thing.__doc__
    ]
    assert undocumented == []


def test_public_modules_need_no_import_of_their_own() -> None:
    """In a fresh interpreter, where nothing has imported them before."""
    program = "import sidestream; print(callable(sidestream.logs.add_run), callable(sidestream.log.runs))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "True True\n"
