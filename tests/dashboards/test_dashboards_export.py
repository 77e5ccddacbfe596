"""`sidestream dashboards export`, from the source tree and from a wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sidestream.cli import app as cli
from sidestream.cli.commands.dashboards import write_boards
from sidestream.errors import ConfigurationError
from tests.support.board_files import FOLDER, GENERATED, PROMETHEUS, boards, links


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, ["dashboards", "export", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_writes_boards_and_rules_as_they_are(tmp_path: Path) -> None:
    printed = run("--out", str(tmp_path / "new" / "folder"))
    written = {path.name: path.read_text("utf-8") for path in (tmp_path / "new" / "folder").iterdir()}
    assert written == {path.name: path.read_text("utf-8") for path in GENERATED.iterdir()}
    assert set(printed.split()) == {str(tmp_path / "new" / "folder" / name) for name in written}


def test_prints_paths_as_json(tmp_path: Path) -> None:
    assert all(Path(path).exists() for path in json.loads(run("--out", str(tmp_path), "--json")))


def test_a_data_source_is_put_into_every_panel_and_variable(tmp_path: Path) -> None:
    run("--out", str(tmp_path), "--datasource", "P18-any")
    for board in boards(tmp_path).values():
        assert "datasource" not in {variable["name"] for variable in board["templating"]["list"]}
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        sources = {panel["datasource"]["uid"] for panel in panels if panel["datasource"]["type"] == PROMETHEUS}
        assert sources == {"P18-any"}
        asked = [each for each in board["templating"]["list"] if each["type"] == "query"]
        assert {variable["datasource"]["uid"] for variable in asked} == {"P18-any"}
        assert not [url for url in links(board) if "${datasource" in url]


def test_is_the_same_a_second_time(tmp_path: Path) -> None:
    first = [path.read_text("utf-8") for path in write_boards(tmp_path, datasource="a")]
    assert [path.read_text("utf-8") for path in write_boards(tmp_path, datasource="a")] == first


def test_a_folder_that_cannot_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot write to"):
        write_boards(tmp_path / "file" / "folder")


def test_an_empty_data_source_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--datasource is empty"):
        write_boards(tmp_path, datasource=" ")


def test_works_from_a_wheel(tmp_path: Path) -> None:
    """The command works from an installed wheel, without a source tree."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    build = f"import hatchling.build; hatchling.build.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=FOLDER.parent, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = "import sidestream, sys; print(sidestream.__file__); from sidestream.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "dashboards", "export", "--out", "out"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(tmp_path / "installed"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in GENERATED.iterdir()}
