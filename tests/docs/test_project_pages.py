"""Pages for those who carry the project on say what is so."""

from __future__ import annotations

import re

import pytest

from tests.support.paths import ROOT


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_paths_and_commands_exist(page: str) -> None:
    """Each `make` target, module and path that a page names is there."""
    text = (ROOT / page).read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"\bmake ([a-z-]+)\b", text):
        assert f"\n{target}" in makefile, target
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module
    for path in re.findall(r"`((?:metrics|events|sources|cli|recording)/[\w/.]+)`", text):
        assert (ROOT / "telemetry" / "sidestream" / path).exists(), path
