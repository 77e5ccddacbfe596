"""The documentation site: it builds without a warning, and its pages ask nobody else for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sidestream
from tests.support.paths import ROOT

LOADED = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(https?:)?//|<link\b(?![^>]*rel=["']?(?:canonical|next|prev))[^>]*\bhref=["']?(https?:)?//|@import\s+url\(["']?(https?:)?//|url\(["']?https?://""")  # fmt: skip  # noqa: E501


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        found = LOADED.search(file.read_text("utf-8"))
        assert not found, f"{file.relative_to(site)}: {found[0]}"


def test_every_public_name_has_its_place_in_the_reference(site: Path) -> None:
    reference = "".join(page.read_text("utf-8") for page in (site / "reference").rglob("*.html"))
    anchors = set(re.findall(r'id="sidestream(?:_exporters)?\.(?:[\w.]+\.)?(\w+)"', reference))
    assert set(sidestream.__all__) - anchors == set()
