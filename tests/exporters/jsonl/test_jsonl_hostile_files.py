"""JSONL exporter on hostile paths: links are not followed, and files of other users are not changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidestream import ConfigurationError, ExporterUnavailable
from sidestream_exporters.jsonl import JSONLExporter
from tests.support.jsonl_files import assert_each_once, events, log_files, open_exporter, read

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="pipes, links and owners of POSIX"),
    pytest.mark.scenario_29,
]

OLD = "20261121T065607Z-4711.jsonl"
NOBODY = 65_534


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """File that must not be changed. The missing final newline makes it look like a torn log."""
    file = tmp_path / "victim"
    file.write_text("precious")
    return file


def assert_untouched(victim: Path) -> None:
    assert victim.read_text() == "precious"


def test_a_shared_file_that_is_a_link_is_refused_at_once(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "app.jsonl").symlink_to(victim)
    with pytest.raises(ConfigurationError, match="is a link"):
        JSONLExporter(tmp_path / "app.jsonl")
    assert_untouched(victim)


def test_a_shared_file_that_becomes_a_link_is_not_written_through(tmp_path: Path, victim: Path) -> None:
    exporter = open_exporter(f"jsonl:{tmp_path}/app.jsonl")
    exporter.export(events(1))
    (tmp_path / "app.jsonl").unlink()
    (tmp_path / "app.jsonl").symlink_to(victim)
    with pytest.raises(ExporterUnavailable, match="is a link"):
        exporter.export(events(1, start=1))
    (tmp_path / "app.jsonl").unlink()
    exporter.export(events(1, start=1))
    assert_each_once(read(tmp_path / "app.jsonl"), events(1, start=1))
    exporter.close()
    assert_untouched(victim)


def test_a_shared_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    exporter = open_exporter(f"jsonl:{tmp_path}/app.jsonl")
    os.mkfifo(tmp_path / "app.jsonl")
    with pytest.raises(ExporterUnavailable, match="not a regular file"):
        exporter.export(events(1))
    exporter.close()


@pytest.mark.parametrize("options", ["", "&keep_files=1", "&compress=true"])
def test_links_among_the_files_of_a_folder_are_neither_healed_nor_pruned_nor_compressed(
    tmp_path: Path, victim: Path, options: str
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / OLD).symlink_to(victim)
    exporter = open_exporter(f"jsonl:{folder}/?rotate_bytes=200{options}")
    for number in range(4):
        exporter.export(events(1, start=number))
    exporter.close()
    assert_untouched(victim)
    assert (folder / OLD).is_symlink()


@pytest.mark.parametrize("name", [f"{OLD}.torn", f"{OLD}.gz.part", f"{OLD}.gz"])
def test_what_is_moved_aside_or_compressed_goes_through_no_link(tmp_path: Path, victim: Path, name: str) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / OLD).write_bytes(b'{"torn":')
    (folder / name).symlink_to(victim)
    exporter = open_exporter(f"jsonl:{folder}/?compress=true")
    for number in range(3):
        exporter.export(events(1, start=number))
    exporter.close()
    assert_untouched(victim)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_not_appended_to(tmp_path: Path, victim: Path) -> None:
    """The owner of the file could read the appended events."""
    os.chown(victim, NOBODY, NOBODY)
    os.rename(victim, shared := tmp_path / "app.jsonl")
    exporter = open_exporter(f"jsonl:{shared}")
    with pytest.raises(ExporterUnavailable, match="belongs to another user"):
        exporter.export(events(1))
    exporter.close()
    assert_untouched(shared)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_in_our_folder_is_left_alone(tmp_path: Path, victim: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    os.chown(victim, NOBODY, NOBODY)
    os.rename(victim, folder / OLD)
    exporter = open_exporter(f"jsonl:{folder}/?keep_files=1&compress=true")
    exporter.export(events(3))
    exporter.close()
    assert_untouched(folder / OLD)
    assert_each_once(read(*[file for file in log_files(folder) if file.name != OLD]), events(3))
