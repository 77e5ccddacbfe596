"""Wheel and source archive for the package index: reproducible builds, installed into an empty environment."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PROGRAM = """
from pydantic_ai import Agent

from sidestream import Sidecar, log

with Sidecar("jsonl:runs/") as sidecar:
    answer = sidecar.observe(Agent("test", name="support")).run_sync("Hello").output
print(answer, [run.agent_name for run in log.runs("runs/")])
"""


def build(kind: str, folder: Path) -> Path:
    """The wheel or source archive (`build_wheel`, `build_sdist`) of the checkout."""
    code = f"import hatchling.build; print(hatchling.build.{kind}({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("build_wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def source_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("build_sdist", tmp_path_factory.mktemp("sdist"))


def test_it_is_built_the_same_each_time(wheel: Path, source_archive: Path, tmp_path: Path) -> None:
    for kind, first in (("build_wheel", wheel), ("build_sdist", source_archive)):
        again = build(kind, tmp_path)
        assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(first.read_bytes()).digest()


def test_the_wheel_holds_the_two_packages_their_types_and_the_boards(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"sidestream", "sidestream_exporters"}
    for needed in ("sidestream/py.typed", "sidestream_exporters/py.typed", "sidestream/events/event.schema.json"):
        assert needed in names
    assert any(name.startswith("sidestream/_dashboards/") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_bundles_nothing_of_others(wheel: Path) -> None:
    """Whose licence would have to come with it. What is installed beside it has a line in the SBOM of a release."""
    archive = zipfile.ZipFile(wheel)
    shared = {".js", ".css", ".svg", ".html", ".woff", ".woff2", ".ttf", ".wasm", ".so", ".pyd"}
    assets = [name for name in archive.namelist() if Path(name).suffix in shared]
    assert {Path(name).suffix for name in assets} == {".js", ".css", ".svg", ".html"}
    for name in assets:
        assert not re.search(rb"(?i)copyright|\blicen[cs]e|@preserve|sourceMappingURL", archive.read(name)), name


def test_a_wheel_built_of_the_source_archive_is_the_wheel(wheel: Path, source_archive: Path, tmp_path: Path) -> None:
    with tarfile.open(source_archive) as archive:
        archive.extractall(tmp_path, filter="data")
    [root] = [path for path in tmp_path.iterdir() if path.is_dir()]
    code = f"import hatchling.build; print(hatchling.build.build_wheel({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True)
    [again] = tmp_path.glob("*.whl")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


def test_installed_where_nothing_else_is_a_program_runs(wheel: Path, tmp_path: Path) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    venv, program = tmp_path / "venv", tmp_path / "program.py"
    program.write_text(PROGRAM, "utf-8")
    python = venv / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    lock = ROOT / "requirements-dev.lock"
    for command in (
        ["venv", "-q", "--python", sys.executable, str(venv)],
        ["pip", "install", "-q", "--system-certs", "--python", str(python), "-c", str(lock), str(wheel)],
    ):
        subprocess.run([uv, *command], check=True, capture_output=True, timeout=110)
    run = subprocess.run([python, program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.stdout == "success (no tool calls) ['support']\n", run.stderr
    version = subprocess.run([python.with_name("sidestream"), "--version"], capture_output=True, text=True, timeout=60)
    assert version.stdout.startswith("sidestream 0."), version.stderr
