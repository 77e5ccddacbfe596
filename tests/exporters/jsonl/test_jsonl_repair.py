"""JSONL exporter: killed writers, torn lines, concurrent writers."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestream.events import encode_line
from tests.support.jsonl_files import assert_each_once, events, keys, log_files, open_exporter, read, spawn

pytestmark = pytest.mark.scenario_09

LOG = b"".join(map(encode_line, events(3)))


def reopen_and_write(folder: Path, name: str) -> None:
    """Write to the log as the next process would."""
    exporter = open_exporter(f"jsonl:{folder}/{name}")
    exporter.export(events(2, run_id="next"))
    exporter.close()


def torn_names() -> st.SearchStrategy[tuple[str, str]]:
    """Path of the log as configured, and the torn file within."""
    return st.sampled_from([("", "20260101T000000Z-1.jsonl"), ("log.jsonl", "log.jsonl")])


class TestTornTails:
    @settings(max_examples=60, deadline=None)
    @given(torn_names(), st.integers(0, len(LOG)))
    def test_any_prefix_of_a_log_keeps_its_whole_lines_and_the_fragment_is_kept_beside(
        self, names: tuple[str, str], cut: int
    ) -> None:
        self.check(names, LOG[:cut])

    @settings(max_examples=60, deadline=None)
    @given(torn_names(), st.integers(0, 3), st.binary(max_size=300).filter(lambda tail: b"\n" not in tail))
    def test_any_bytes_after_the_last_newline_are_moved_aside(
        self, names: tuple[str, str], lines: int, tail: bytes
    ) -> None:
        self.check(names, b"".join(LOG.splitlines(keepends=True)[:lines]) + tail)

    def test_a_fragment_of_megabytes(self) -> None:
        for lines in (LOG, b""):
            self.check(("", "20260101T000000Z-1.jsonl"), lines + b"x" * 3_000_001)

    def check(self, names: tuple[str, str], left: bytes) -> None:
        whole, newline, fragment = left.rpartition(b"\n")
        whole += newline
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            file = folder / names[1]
            file.write_bytes(left)
            reopen_and_write(folder, names[0])
            assert file.read_bytes().startswith(whole)
            assert_each_once(read(folder), [*events(whole.count(b"\n")), *events(2, run_id="next")])
            torn = file.with_name(file.name + ".torn")
            assert (torn.read_bytes() if torn.exists() else b"") == (fragment + b"\n" if fragment else b"")

    def test_fragments_of_several_crashes_are_all_kept(self, tmp_path: Path) -> None:
        for n in range(3):
            with open(tmp_path / "log.jsonl", "ab") as file:
                file.write(b"fragment %d" % n)
            reopen_and_write(tmp_path, "log.jsonl")
        assert (tmp_path / "log.jsonl.torn").read_text() == "fragment 0\nfragment 1\nfragment 2\n"
        assert len(read(tmp_path / "log.jsonl")) == 6

    def test_a_fragment_that_another_process_leaves_in_a_shared_file_is_not_glued_to_our_next_line(
        self, tmp_path: Path
    ) -> None:
        exporter = open_exporter(f"jsonl:{tmp_path}/log.jsonl")
        exporter.export(events(1))
        with open(tmp_path / "log.jsonl", "ab") as file:
            file.write(b'{"event_type":"tool_e')
        exporter.export(events(1, start=1))
        exporter.close()
        assert keys(read(tmp_path / "log.jsonl")) == keys(events(2))

    def test_a_repair_is_said_without_its_content(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "20260101T000000Z-1.jsonl").write_bytes(LOG + b"secret")
        with caplog.at_level(logging.INFO, "sidestream"):
            reopen_and_write(tmp_path, "")
            reopen_and_write(tmp_path, "")
        assert caplog.text.count("torn line moved aside") == 1
        assert "bytes=6" in caplog.text
        assert "secret" not in caplog.text

    def test_the_file_of_a_living_writer_is_left_alone(self, tmp_path: Path) -> None:
        writer = open_exporter(f"jsonl:{tmp_path}")
        writer.export(events(1))
        (file,) = log_files(tmp_path)
        with open(file, "ab") as half:
            half.write(b"half")  # the state that other processes see in the middle of a write
        reopen_and_write(tmp_path, "")
        assert file.read_bytes().endswith(b"half")
        writer.close()

    def test_files_of_others_are_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "notes.jsonl").write_bytes(b"mine")
        reopen_and_write(tmp_path, "")
        assert (tmp_path / "notes.jsonl").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["", "log.jsonl"])
class TestProcesses:
    @pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
    @pytest.mark.parametrize("options", ["", "?rotate_bytes=2000000&compress=true"])
    def test_kill_9_in_the_middle_of_writing_leaves_nothing_glued_and_nothing_lost(
        self, tmp_path: Path, name: str, options: str
    ) -> None:
        for n in range(5):
            writer = spawn(f"jsonl:{tmp_path}/{name}{options}", str(n), threads=2, batches=200, count=3, size=300_000)
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(0.02 * (n + 1))
            writer.kill()
            writer.wait()
            writer.stdout.close()
        reopen_and_write(tmp_path, name)
        by_run: dict[str, list[int]] = {}
        for run_id, seq in keys(read(tmp_path)):
            by_run.setdefault(run_id, []).append(seq)
        assert by_run.pop("next") == [0, 1]
        assert len(by_run) >= 5
        for seqs in by_run.values():
            # A kill between the last two steps of a compression leaves a file twice, plain and compressed.
            assert sorted(set(seqs)) == list(range(max(seqs) + 1)), "a prefix of what was written"
            assert options or seqs == sorted(set(seqs)), "in order, each once"

    @pytest.mark.scenario_10
    @pytest.mark.parametrize("options", ["", "?rotate_bytes=3000000", "?rotate_bytes=3000000&compress=true"])
    def test_processes_and_threads_write_lines_of_megabytes_each_whole_and_once(
        self, tmp_path: Path, name: str, options: str
    ) -> None:
        shape = {"threads": 2, "batches": 3, "count": 2, "size": 1_000_000}
        writers = [spawn(f"jsonl:{tmp_path}/{name}{options}", str(n), **shape) for n in range(3)]
        for writer in writers:
            assert writer.communicate()[0] == "ready\n"
            assert writer.returncode == 0
        expected = [e for n in range(3) for t in range(2) for e in events(6, run_id=f"{n}.{t}", size=1)]
        assert_each_once(read(tmp_path), expected)
        assert not list(tmp_path.glob("*.torn"))

    @pytest.mark.scenario_11
    def test_rotation_under_load_keeps_every_record_whole_in_one_file(self, tmp_path: Path, name: str) -> None:
        spec = f"jsonl:{tmp_path}/{name}?rotate_bytes=20000"
        writers = [spawn(spec, str(n), threads=2, batches=150, count=4, size=500) for n in range(3)]
        for writer in writers:
            writer.communicate()
            assert writer.returncode == 0
        expected = [e for n in range(3) for t in range(2) for e in events(600, run_id=f"{n}.{t}", size=1)]
        assert_each_once(read(tmp_path), expected)
        assert len(log_files(tmp_path)) > 60
        assert max(file.stat().st_size for file in log_files(tmp_path)) <= 20_000
