"""A release has the addresses of its repository: in its metadata, and in the README that a package index shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.release.addresses import absolute, check_changelog, check_repository, name_addresses, version_of
from tests.support.paths import ROOT

REPOSITORY = "https://forge.example/someone/sidestream"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("given", [[], ["--repository", "http://forge.example/x"], ["--repository", "sidestream"]])
def test_without_an_address_it_is_refused_in_one_line(given: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.release", *given, "--into", str(tmp_path / "release")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert re.fullmatch(r"make release: .*https://github\.com/OWNER/sidestream\n", done.stderr)
    assert not (tmp_path / "release").exists()


@pytest.mark.parametrize("wrong", ["", "forge.example/a", "https://forge.example", f"{REPOSITORY}/", f"{REPOSITORY} x"])
def test_an_address_is_one_of_a_repository(wrong: str) -> None:
    check_repository(REPOSITORY)
    with pytest.raises(ValueError, match="repository"):
        check_repository(wrong)


def test_the_metadata_names_repository_documentation_changelog_and_issues(checkout: Path) -> None:
    name_addresses(checkout, REPOSITORY)
    before, after = (
        tomllib.loads((place / "pyproject.toml").read_text("utf-8"))["project"] for place in (ROOT, checkout)
    )
    urls = after.pop("urls")
    assert after == before
    assert urls.keys() == {"Repository", "Documentation", "Changelog", "Issues"}
    assert all(url.startswith(REPOSITORY) for url in urls.values())


def test_every_link_of_the_readme_leads_to_a_file_at_the_tag_of_the_version(checkout: Path) -> None:
    name_addresses(checkout, REPOSITORY)
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", (checkout / "README.md").read_text("utf-8"))
    own = [(picture, link) for picture, link in links if link.startswith(REPOSITORY)]
    assert len(own) > 5
    assert [link for _, link in links if not link.startswith("https://")] == []
    for picture, link in own:
        kind, tag, path = re.fullmatch(rf"{REPOSITORY}/(\w+)/(v[\d.]+)/(.+)", link).groups()  # type: ignore[union-attr]
        assert (kind, tag) == ("raw" if picture else "blob", f"v{version_of(ROOT)}")
        assert (ROOT / path).is_file(), path


def test_links_elsewhere_and_within_the_page_stay() -> None:
    text = "[a](https://a.example/b) [c](#d) [e](mailto:f@g.example) ![h](i.png) [j](k.md#l)"
    assert absolute(text, REPOSITORY, "1.2") == (
        "[a](https://a.example/b) [c](#d) [e](mailto:f@g.example) "
        f"![h]({REPOSITORY}/raw/v1.2/i.png) [j]({REPOSITORY}/blob/v1.2/k.md#l)"
    )


def test_a_version_without_a_changelog_is_refused(checkout: Path) -> None:
    for heading in ("## [Unreleased]", f"## [{version_of(checkout)}] - 2026-12-01", "## [0.0.9] - 2026-11-01"):
        (checkout / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n", "utf-8")
        if "0.0.9" not in heading:
            check_changelog(checkout)
    with pytest.raises(ValueError, match=r"CHANGELOG\.md is 0\.0\.9"):
        check_changelog(checkout)
