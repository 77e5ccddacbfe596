"""Addresses of a release: the project's URLs and the README's links, into the repository at the tag of the release."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:|#|mailto:)([^)\s]+)\)")
REPOSITORY = re.compile(r"https://[a-z0-9.-]+(/[\w.-]+)+")


def version_of(checkout: Path) -> str:
    return str(tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def check_repository(repository: str) -> None:
    """Raises `ValueError` with one line on what to give, unless `repository` is an address of a repository."""
    if not repository:
        raise ValueError("name the public repository: make release REPOSITORY=https://github.com/OWNER/sidestream")
    if not REPOSITORY.fullmatch(repository):
        raise ValueError(f"{repository} is no address of a repository, such as https://github.com/OWNER/sidestream")


def check_changelog(checkout: Path) -> None:
    """Raises `ValueError` unless the newest section of the changelog is the project's version, or not released yet."""
    version = version_of(checkout)
    newest = re.search(r"^## \[?([^\]\s]+)", (checkout / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    found = newest[1] if newest else "not there"
    if found not in (version, "Unreleased"):
        raise ValueError(f"the newest version in CHANGELOG.md is {found}, that of pyproject.toml is {version}")


def absolute(text: str, repository: str, version: str) -> str:
    """Markdown with absolute links: the page of a package index has no files beside it."""

    def link(found: re.Match[str]) -> str:
        kind = "raw" if found[1] else "blob"
        return f"{found[1]}{found[2]}({repository}/{kind}/v{version}/{found[3]})"

    return LINK.sub(link, text)


def name_addresses(checkout: Path, repository: str) -> None:
    """Writes the addresses into `pyproject.toml` and `README.md` of a copy of the checkout."""
    version, project, readme = version_of(checkout), checkout / "pyproject.toml", checkout / "README.md"
    pages = f"{repository}/blob/v{version}"
    urls = {
        "Repository": repository,
        "Documentation": f"{pages}/docs/index.md",
        "Changelog": f"{pages}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
    table = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    text, marker = project.read_text("utf-8"), "[project.optional-dependencies]\n"
    if text.count(marker) != 1 or "[project.urls]" in text:
        raise ValueError(f"pyproject.toml has no place for [project.urls] before {marker.strip()}")
    project.write_text(text.replace(marker, f"[project.urls]\n{table}\n{marker}"), "utf-8")
    readme.write_text(absolute(readme.read_text("utf-8"), repository, version), "utf-8")
