"""Virtual environments for packages that the project does not depend on, cached beside the active one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from .report import progress

CACHE = Path(sys.prefix) / "bench"

PACKAGES = {
    "logfire": ["logfire"],
    "openinference": ["openinference-instrumentation-pydantic-ai", "opentelemetry-sdk"],
    "langfuse": ["langfuse"],
    "mlflow": ["mlflow"],
}
"""Packages of each subject besides pydantic-ai. A subject without an entry runs in the benchmark's environment."""


class NotInstalled(Exception):
    """A package cannot be installed here; the message has the reason."""


def python_of(subject: str) -> str:
    """Interpreter of the environment of `subject`, created on first use. Raises `NotInstalled`."""
    if subject not in PACKAGES:
        return sys.executable
    folder = CACHE / subject
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "installed").exists():
        progress(f"installing {subject} into {folder} …")
        _uv("venv", "-q", "--clear", "--python", sys.executable, str(folder))
        same = f"pydantic-ai-slim=={version('pydantic-ai-slim')}"
        _uv("pip", "install", "-q", "--python", str(python), same, *PACKAGES[subject])
        (folder / "installed").touch()
    return str(python)


def library(name: str) -> str:
    """Folder from which the package `name` can be imported. Raises `NotInstalled`."""
    folder = CACHE / f"lib-{name}"
    if not folder.exists():
        _uv("pip", "install", "-q", "--python", sys.executable, "--target", str(folder), name)
    return str(folder)


def _uv(*arguments: str) -> None:
    command: Sequence[str] = [sys.executable, "-m", "uv", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise NotInstalled(lines[-1].strip() if lines else f"{' '.join(arguments[:2])} failed")
