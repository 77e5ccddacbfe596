"""Copies of the checkout: as it is committed or staged, without what lies about."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.support.paths import ROOT


def copy_checkout(folder: Path) -> None:
    """Copies the files that git knows, as they are now, into `folder`."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name in filter(None, names.split("\0")):
                archive.add(ROOT / name, name)
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            archive.extractall(folder, filter="data")
