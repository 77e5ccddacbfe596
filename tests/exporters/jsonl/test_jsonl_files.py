"""JSONL exporter: rotation, compression and retention; outages and forks."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidestream.errors import ExporterUnavailable
from sidestream.events import ToolEnd, encode_line, make_event
from sidestream_exporters.jsonl import files
from sidestream_exporters.jsonl.files import Compression, LogFile
from tests.support.jsonl_files import assert_each_once, events, keys, log_files, open_exporter, read

pytestmark = pytest.mark.scenario_11

both = pytest.mark.parametrize("name", ["", "log.jsonl"])
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
OLD = "20260101T000000Z-1"


def write(spec: str, *starts: int, count: int = 1) -> None:
    exporter = open_exporter(spec)
    for start in starts:
        exporter.export(events(count, start=start))
    exporter.close()


@both
class TestRotation:
    def test_a_file_stays_below_rotate_bytes(self, tmp_path: Path, name: str) -> None:
        write(f"jsonl:{tmp_path}/{name}?rotate_bytes=1000", *range(30))
        assert keys(sorted(read(tmp_path), key=lambda e: e.seq)) == keys(events(30))
        sizes = [file.stat().st_size for file in log_files(tmp_path)]
        assert len(sizes) > 5
        assert max(sizes) <= 1000

    def test_a_batch_larger_than_rotate_bytes_is_one_file_and_no_file_is_empty(self, tmp_path: Path, name: str) -> None:
        write(f"jsonl:{tmp_path}/{name}?rotate_bytes=10", 0, 5, 10, count=5)
        assert [len(read(file)) for file in log_files(tmp_path)] == [5, 5, 5]

    def test_a_file_that_is_old_enough_is_left_for_a_new_one(self, tmp_path: Path, name: str) -> None:
        exporter = open_exporter(f"jsonl:{tmp_path}/{name}?rotate_seconds=0.05")
        for start in range(3):
            exporter.export(events(1, start=start))
            time.sleep(0.06)
        exporter.close()
        assert len(log_files(tmp_path)) == 3

    def test_the_order_of_names_is_the_order_of_time(self, tmp_path: Path, name: str) -> None:
        write(f"jsonl:{tmp_path}/{name}?rotate_bytes=10", *range(12))
        rotated = [file for file in log_files(tmp_path) if file.name != "log.jsonl"]
        seqs = [seq for _, seq in keys(read(*rotated))]
        assert seqs == sorted(seqs)


class TestSharedFile:
    def test_the_age_of_a_shared_file_counts_from_its_first_line_not_from_our_start(self, tmp_path: Path) -> None:
        log = tmp_path / "log.jsonl"
        log.write_bytes(encode_line(make_event(ToolEnd(tool_name="t", outcome="ok"), timestamp=yesterday())))
        write(f"jsonl:{log}?rotate_seconds=3600", 0)
        assert len(log_files(tmp_path)) == 2
        assert len(read(log)) == 1

    @posix
    def test_a_writer_follows_when_another_one_rotated_or_somebody_renamed_or_removed_the_file(
        self, tmp_path: Path
    ) -> None:
        log = tmp_path / "log.jsonl"
        first = open_exporter(f"jsonl:{log}")
        first.export(events(1))
        write(f"jsonl:{log}?rotate_bytes=10", 1)
        first.export(events(1, start=2))
        assert keys(read(log)) == [("run", 1), ("run", 2)]
        log.rename(tmp_path / "moved")
        first.export(events(1, start=3))
        assert keys(read(log)) == [("run", 3)]
        log.unlink()
        first.export(events(1, start=4))
        assert keys(read(log)) == [("run", 4)]
        first.close()


def yesterday() -> datetime:
    return datetime.now(UTC) - timedelta(days=1)


class TestCompression:
    @both
    def test_finished_files_become_readable_gzip_files_with_every_event(self, tmp_path: Path, name: str) -> None:
        write(f"jsonl:{tmp_path}/{name}?rotate_bytes=1000&compress=true", *range(40))
        assert_each_once(read(tmp_path), events(40))
        plain = [file for file in log_files(tmp_path) if file.suffix == ".jsonl"]
        assert len(plain) <= 2, "the one being written, and perhaps the last one finished"

    def test_a_file_of_many_blocks_is_compressed_between_batches(self, tmp_path: Path) -> None:
        exporter = open_exporter(f"jsonl:{tmp_path}?rotate_bytes=1000&compress=true")
        exporter.export(events(3, size=1_000_000))
        exporter.export(events(1, start=3))
        assert list(tmp_path.glob("*.gz.part")), "3 MB are not compressed in one go"
        for start in range(4, 14):
            exporter.export(events(1, start=start))
        exporter.close()
        assert list(tmp_path.glob("*.gz"))
        assert not list(tmp_path.glob("*.gz.part"))
        assert_each_once(read(tmp_path), events(14))

    def test_what_dead_writers_left_is_compressed_by_the_next_one(self, tmp_path: Path) -> None:
        (tmp_path / f"{OLD}.jsonl").write_bytes(b"".join(map(encode_line, events(3))) + b"torn")
        write(f"jsonl:{tmp_path}?compress=true", 3)
        assert keys(read(tmp_path / f"{OLD}.jsonl.gz")) == keys(events(3))
        assert not (tmp_path / f"{OLD}.jsonl").exists()

    @pytest.mark.parametrize("steps", range(5))
    @pytest.mark.parametrize("again", ["true", "false"])
    def test_killed_half_way_no_data_is_lost_and_the_next_writer_clears_up(
        self, tmp_path: Path, steps: int, again: str
    ) -> None:
        given = events(4, size=200_000)
        (tmp_path / f"{OLD}.jsonl").write_bytes(b"".join(map(encode_line, given)))
        source = LogFile.claim(str(tmp_path / f"{OLD}.jsonl"))
        assert source is not None
        compression = Compression(source)
        more = all(compression.step() for _ in range(steps))
        if more:
            compression.close()  # as after a kill, which leaves only the files
        write(f"jsonl:{tmp_path}?compress={again}", 4, 5)
        assert_each_once(read(tmp_path), [*given, *events(2, start=4)])
        assert not list(tmp_path.glob("*.gz.part"))

    def test_killed_between_the_last_two_steps_the_file_is_compressed_once_more(self, tmp_path: Path) -> None:
        plain = tmp_path / f"{OLD}.jsonl"
        plain.write_bytes(b"".join(map(encode_line, events(3))))
        plain.with_suffix(".jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
        write(f"jsonl:{tmp_path}?compress=true", 3)
        assert_each_once(read(tmp_path), events(4))

    def test_the_name_of_a_compressed_file_is_not_given_to_a_new_one(self, tmp_path: Path) -> None:
        for start in range(10):
            write(f"jsonl:{tmp_path}?compress=true", start)
        assert_each_once(read(tmp_path), events(10))


class TestRetention:
    @both
    @pytest.mark.parametrize("compress", ["true", "false"])
    def test_the_newest_finished_files_are_kept(self, tmp_path: Path, name: str, compress: str) -> None:
        write(f"jsonl:{tmp_path}/{name}?rotate_bytes=10&keep_files=3&compress={compress}", *range(20))
        found = sorted(seq for _, seq in keys(read(tmp_path)))
        assert found == [16, 17, 18, 19]

    def test_files_last_written_too_long_ago_go_with_their_fragments(self, tmp_path: Path) -> None:
        for stem, age in (("20260101T000000Z-1", 7200), ("20260102T000000Z-1", 60)):
            for suffix in (".jsonl", ".jsonl.torn"):
                file = tmp_path / (stem + suffix)
                file.write_bytes(encode_line(events(1)[0]))
                os.utime(file, (time.time() - age,) * 2)
        write(f"jsonl:{tmp_path}?keep_seconds=3600", 0)
        left = sorted(file.name for file in tmp_path.iterdir())
        assert left[:2] == ["20260102T000000Z-1.jsonl", "20260102T000000Z-1.jsonl.torn"]
        assert len(left) == 3

    def test_compressing_does_not_make_a_file_younger(self, tmp_path: Path) -> None:
        file = tmp_path / f"{OLD}.jsonl"
        file.write_bytes(encode_line(events(1)[0]))
        os.utime(file, (1_700_000_000, 1_700_000_000))
        write(f"jsonl:{tmp_path}?compress=true", 0)
        assert (tmp_path / f"{OLD}.jsonl.gz").stat().st_mtime == 1_700_000_000

    @posix
    def test_neither_living_writers_nor_files_of_others_are_touched(self, tmp_path: Path) -> None:
        living = open_exporter(f"jsonl:{tmp_path}")
        living.export(events(1))
        strangers = [tmp_path / "notes.jsonl", tmp_path / f"other-{OLD}.jsonl", tmp_path / "20260101.jsonl.gz"]
        for stranger in strangers:
            stranger.write_text("mine\n")
            os.utime(stranger, (1, 1))
        write(f"jsonl:{tmp_path}?rotate_bytes=10&keep_files=1&keep_seconds=0.001&compress=true", *range(1, 9))
        living.export(events(1, start=9))
        living.close()
        assert all(stranger.read_text() == "mine\n" for stranger in strangers)
        for stranger in strangers:
            stranger.unlink()
        assert {0, 9} <= {seq for _, seq in keys(read(tmp_path))}


@contextmanager
def full_disk(folder: Path, free: int) -> Iterator[None]:
    """Limit file sizes to `free` bytes within the block, like a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@posix
class TestOutages:
    @both
    def test_a_batch_that_does_not_fit_leaves_no_trace_and_is_taken_later(self, tmp_path: Path, name: str) -> None:
        exporter = open_exporter(f"jsonl:{tmp_path}/{name}")
        exporter.export(events(5))
        (file,) = log_files(tmp_path)
        before = file.read_bytes()
        with full_disk(tmp_path, 2000):
            for _ in range(3):
                with pytest.raises(ExporterUnavailable):
                    exporter.export(events(50, start=5))
            assert file.read_bytes() == before
        exporter.export(events(50, start=5))
        exporter.close()
        assert keys(read(tmp_path)) == keys(events(55))

    def test_an_outage_is_said_once_and_so_is_its_end(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        exporter = open_exporter(f"jsonl:{tmp_path}")
        with caplog.at_level(logging.INFO, "sidestream"):
            for _ in range(2):
                with full_disk(tmp_path, 100):
                    for _ in range(3):
                        with pytest.raises(ExporterUnavailable):
                            exporter.export(events(50))
                exporter.export(events(50))
                exporter.export(events(50))
        exporter.close()
        assert caplog.text.count("log cannot be written") == 2
        assert caplog.text.count("log can be written again") == 2

    def test_a_file_system_without_space_and_then_with_some(self, tmp_path: Path) -> None:
        mount, umount = shutil.which("mount"), shutil.which("umount")
        if not mount or not umount or os.geteuid() != 0:
            pytest.skip("only root can mount a small file system")
        command = [mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no permission to mount")
        try:
            (tmp_path / "ballast").write_bytes(b"x" * 50_000)
            exporter = open_exporter(f"jsonl:{tmp_path}")
            exporter.export(events(10))
            with pytest.raises(ExporterUnavailable, match="space"):
                exporter.export(events(100, start=10, size=200))
            assert keys(read(tmp_path)) == keys(events(10))
            (tmp_path / "ballast").unlink()
            exporter.export(events(100, start=10, size=200))
            exporter.close()
            assert keys(read(tmp_path)) == keys(events(110))
        finally:
            subprocess.run([umount, str(tmp_path)], check=True)

    @both
    def test_a_folder_that_is_removed_is_made_again(self, tmp_path: Path, name: str) -> None:
        exporter = open_exporter(f"jsonl:{tmp_path}/runs/{name}")
        exporter.export(events(1))
        shutil.rmtree(tmp_path / "runs")
        exporter.export(events(1, start=1))
        exporter.close()
        assert keys(read(tmp_path / "runs")) == [("run", 1)]

    @both
    def test_a_folder_replaced_by_a_file_is_an_outage_until_it_is_back(self, tmp_path: Path, name: str) -> None:
        exporter = open_exporter(f"jsonl:{tmp_path}/runs/{name}")
        exporter.export(events(1))
        (tmp_path / "runs").rename(tmp_path / "away")
        (tmp_path / "runs").write_text("in the way")
        for _ in range(2):
            with pytest.raises(ExporterUnavailable):
                exporter.export(events(1, start=1))
        (tmp_path / "runs").unlink()
        exporter.export(events(1, start=1))
        exporter.close()
        assert keys(read(tmp_path / "away", tmp_path / "runs")) == keys(events(2))

    def test_a_start_that_fails_can_be_tried_again(self, tmp_path: Path) -> None:
        from sidestream.pipeline.registry import make_exporter

        exporter = make_exporter(f"jsonl:{tmp_path}/runs")
        (tmp_path / "runs").write_text("in the way")
        with pytest.raises(ExporterUnavailable):
            exporter.start()
        (tmp_path / "runs").unlink()
        exporter.start()
        exporter.export(events(1))
        exporter.close()
        assert len(read(tmp_path / "runs")) == 1

    @both
    def test_a_file_that_cannot_be_rotated_is_written_on(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exporter = open_exporter(f"jsonl:{tmp_path}/{name}?rotate_bytes=10")
        exporter.export(events(1))
        with monkeypatch.context() as patch:
            patch.setattr(files.Log, "new_paths", lambda self: iter([f"{tmp_path}/{'no' * 200}.jsonl"]))
            exporter.export(events(1, start=1))
        assert len(log_files(tmp_path)) == 1
        exporter.export(events(1, start=2))
        exporter.close()
        assert len(log_files(tmp_path)) == 2
        assert_each_once(read(tmp_path), events(3))

    @both
    def test_a_fragment_that_could_not_be_rolled_back_is_not_glued_to_the_next_line(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exporter = open_exporter(f"jsonl:{tmp_path}/{name}")
        with monkeypatch.context() as patch, full_disk(tmp_path, 1010):
            patch.setattr(os, "ftruncate", lambda fd, size: os.fstat(-1))
            with pytest.raises(ExporterUnavailable):
                exporter.export(events(1, size=2000))
        exporter.export(events(1))
        exporter.close()
        assert keys(read(tmp_path)) == keys(events(1))


@posix
@both
def test_a_forked_child_writes_on_its_own_and_leaves_the_parent_its_file(tmp_path: Path, name: str) -> None:
    exporter = open_exporter(f"jsonl:{tmp_path}/{name}?rotate_bytes=3000000&compress=true")
    exporter.export(events(1, run_id="parent", size=3_000_000))
    exporter.export(events(1, run_id="parent", start=1))  # leaves a compression half done
    child = os.fork()
    if child == 0:
        try:
            exporter.after_fork()
            exporter.start()
            exporter.export(events(2, run_id="child"))
            exporter.close()
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    write(f"jsonl:{tmp_path}/{name}", 0)  # would compress or truncate the parent's file without its lock
    for start in range(2, 14):
        exporter.export(events(1, run_id="parent", start=start))
    exporter.close()
    found = keys(read(tmp_path))
    assert sorted(seq for run_id, seq in found if run_id == "parent") == list(range(14))
    assert sorted(seq for run_id, seq in found if run_id == "child") == [0, 1]
    assert not list(tmp_path.glob("*.torn"))
    if not name:
        assert any(f"-{child}" in file.name for file in log_files(tmp_path)), "a file of the child's own"


@posix
def test_a_child_that_is_killed_after_a_fork_does_not_free_the_parents_lock(tmp_path: Path) -> None:
    exporter = open_exporter(f"jsonl:{tmp_path}")
    exporter.export(events(1))
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (file,) = log_files(tmp_path)
    assert LogFile.claim(str(file)) is None
    exporter.close()
    freed = LogFile.claim(str(file))
    assert freed is not None
    freed.close()
