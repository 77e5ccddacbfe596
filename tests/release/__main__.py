"""Release: builds the wheel and the source archive, and installs and uses each where nothing else is.

    python -m tests.release --repository https://github.com/OWNER/sidestream [--into dist/release]

Builds twice, in two copies of the checkout, and compares the bytes. Beside the archives lie `sbom.json` (CycloneDX:
what is installed with them, with licences) and `SHA256SUMS`. Publishes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.release.addresses import check_changelog, check_repository, name_addresses, version_of
from tests.release.trial import try_archive
from tests.support.checkout import copy_checkout
from tests.support.paths import ROOT


def build(repository: str, into: Path) -> list[Path]:
    """The archives, built in a copy of the checkout."""
    with tempfile.TemporaryDirectory() as folder:
        copy_checkout(Path(folder))
        name_addresses(Path(folder), repository)
        command = [sys.executable, "-m", "hatchling", "build", "-d", str(into)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return sorted(into.iterdir())


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_sbom(uv: str, environment: Path, file: Path) -> None:
    """CycloneDX: the distributions of `environment`, with versions and licences."""
    tool = [uv, "tool", "run", "-q", "--from", "cyclonedx-bom", "cyclonedx-py", "environment", str(environment)]
    options = ["--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--output-file", str(file)]
    subprocess.run([*tool, *options], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", default="", help="address of the public repository, by https")
    parser.add_argument("--into", type=Path, default=ROOT / "dist/release")
    asked = parser.parse_args()
    try:
        check_repository(asked.repository)
        check_changelog(ROOT)
    except ValueError as error:
        print(f"make release: {error}", file=sys.stderr)
        return 2
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        print("make release: uv is not installed; `pip install uv`", file=sys.stderr)
        return 2
    shutil.rmtree(asked.into, ignore_errors=True)
    asked.into.mkdir(parents=True)
    archives = build(asked.repository, asked.into)
    with tempfile.TemporaryDirectory() as again:
        for first, second in zip(archives, build(asked.repository, Path(again)), strict=True):
            if digest(first) != digest(second):
                print(f"make release: {first.name} differs when it is built again", file=sys.stderr)
                return 1
    subprocess.run([uv, "tool", "run", "-q", "twine", "check", "--strict", *map(str, archives)], check=True)
    for archive in archives:
        with tempfile.TemporaryDirectory() as folder:
            environment = try_archive(uv, archive, Path(folder))
            if archive.suffix == ".whl":
                write_sbom(uv, environment, asked.into / "sbom.json")
        print(f"{archive.name}: built twice the same, installed, used")
    files = [*archives, asked.into / "sbom.json"]
    (asked.into / "SHA256SUMS").write_text("".join(f"{digest(file)}  {file.name}\n" for file in files), "utf-8")
    print(f"{asked.into}: {', '.join(file.name for file in sorted(asked.into.iterdir()))}")
    version = version_of(ROOT)
    print(f"next: name the version in CHANGELOG.md (## [{version}] - date), then git tag -s v{version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
