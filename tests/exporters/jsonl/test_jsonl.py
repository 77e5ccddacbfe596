"""JSONL exporter: lines, options, and invalid settings."""

from __future__ import annotations

import os
import stat
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidestream.errors import ConfigurationError
from sidestream.events import Custom, StreamEvent, make_event
from sidestream.pipeline.registry import make_exporter
from sidestream_exporters.jsonl import JSONLExporter
from sidestream_exporters.jsonl.exporter import _singles
from tests.support.jsonl_files import chunk, events, keys, log_files, open_exporter, read

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")


def lines_of(path: Path, chunks: str, *given: StreamEvent) -> list[StreamEvent]:
    exporter = open_exporter(f"jsonl:{path}?chunks={chunks}")
    exporter.export(given)
    exporter.close()
    return read(path)


class TestLines:
    def test_each_event_is_one_line_in_order_and_reads_back_equal(self, tmp_path: Path) -> None:
        given = [*events(1000), chunk("a", "b")]
        exporter = open_exporter(f"jsonl:{tmp_path}")
        exporter.export(given[:3])
        exporter.export(given[3:])
        exporter.close()
        assert read(tmp_path) == given

    def test_events_are_in_the_file_when_export_returns_without_flush_or_close(self, tmp_path: Path) -> None:
        exporter = open_exporter(f"jsonl:{tmp_path}")
        exporter.export(events(5))
        assert len(read(tmp_path)) == 5
        exporter.close()

    def test_an_event_that_json_cannot_hold_does_not_harm_its_neighbours(self, tmp_path: Path) -> None:
        odd = make_event(Custom(name="odd", payload="\udc80"), run_id="run", seq=1)
        exporter = open_exporter(f"jsonl:{tmp_path}")
        exporter.export([events(1)[0], odd, *events(1, start=2)])
        exporter.close()
        found = read(tmp_path)
        assert [event.seq for event in found] == [0, 1, 2]
        assert found[1].data.payload == "\\udc80"

    def test_huge_events_are_whole(self, tmp_path: Path) -> None:
        given = events(3, size=20_000_000)
        exporter = open_exporter(f"jsonl:{tmp_path}")
        exporter.export(given)
        exporter.close()
        assert keys(read(tmp_path)) == keys(given)


class TestChunks:
    def test_merged_keeps_one_line_per_event(self, tmp_path: Path) -> None:
        event = chunk("ab", "c")
        assert lines_of(tmp_path, "merged", event) == [event]

    def test_all_gives_each_delta_its_line_its_time_and_the_same_seq(self, tmp_path: Path) -> None:
        event = chunk("ab", "", "c", seq=7)
        found = lines_of(tmp_path, "all", event)
        assert [e.data.text for e in found] == ["ab", "", "c"]
        assert [e.data.lengths for e in found] == [[2], [0], [1]]
        assert [e.data.offsets_us for e in found] == [[0]] * 3
        assert [e.offset for e in found] == [10.0, 10.5, 11.0]
        assert [e.timestamp - event.timestamp for e in found] == [timedelta(seconds=s) for s in (0, 0.5, 1)]
        assert {e.seq for e in found} == {7}

    def test_all_leaves_a_chunk_whole_whose_text_was_withheld(self, tmp_path: Path) -> None:
        from sidestream.recording.content import NONE, ContentPolicy, apply_policy

        for policy in (NONE, ContentPolicy.parse("metadata")):
            event = apply_policy(chunk("ab", "c"), policy, None)
            assert list(_singles(event)) == [event]

    @given(st.lists(st.text(max_size=5), min_size=1, max_size=8))
    def test_all_loses_nothing(self, pieces: list[str]) -> None:
        assert [e.data.text for e in _singles(chunk(*pieces))] == pieces

    def test_none_does_not_even_ask_for_chunks(self) -> None:
        assert JSONLExporter("x", chunks="none").skip == {"llm_chunk"}


class TestFiles:
    def test_a_folder_gets_one_file_named_by_time_and_process(self, tmp_path: Path) -> None:
        exporter = open_exporter(f"jsonl:{tmp_path}/deep/runs")
        assert list((tmp_path / "deep/runs").iterdir()) == [], "no file before there is an event"
        exporter.export(events(1))
        exporter.close()
        (file,) = log_files(tmp_path / "deep/runs")
        day, _, rest = file.name.partition("T")
        assert len(day) == 8
        assert rest.endswith(f"Z-{os.getpid()}.jsonl")

    def test_a_second_exporter_of_one_process_takes_a_file_of_its_own(self, tmp_path: Path) -> None:
        exporters = [open_exporter(f"jsonl:{tmp_path}") for _ in range(3)]
        for n, exporter in enumerate(exporters):
            exporter.export(events(1, run_id=str(n)))
        assert len(log_files(tmp_path)) == 3
        for exporter in exporters:
            exporter.close()

    def test_a_path_that_ends_in_jsonl_is_one_file_and_is_continued(self, tmp_path: Path) -> None:
        for start in (0, 2):
            exporter = open_exporter(f"jsonl:{tmp_path}/new/log.jsonl")
            exporter.export(events(2, start=start))
            exporter.close()
        assert keys(read(tmp_path / "new/log.jsonl")) == keys(events(4))

    @pytest.mark.scenario_20
    @posix
    @pytest.mark.parametrize("name", ["runs/", "runs/log.jsonl"])
    def test_files_and_folders_are_for_their_owner_alone(self, tmp_path: Path, name: str) -> None:
        before = os.umask(0)
        try:
            exporter = open_exporter(f"jsonl:{tmp_path}/{name}?rotate_bytes=100&compress=true")
            for start in range(5):
                exporter.export(events(1, start=start))
            exporter.close()
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "runs").stat().st_mode) == 0o700
        files = list((tmp_path / "runs").iterdir())
        assert any(file.suffix == ".gz" for file in files)
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}

    def test_a_later_change_of_directory_does_not_move_the_log(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        exporter = JSONLExporter("runs/")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        exporter.start()
        exporter.export(events(1))
        exporter.close()
        assert len(read(tmp_path / "runs")) == 1


class TestOptions:
    def test_every_option_can_stand_in_a_spec(self, tmp_path: Path) -> None:
        exporter = make_exporter(
            f"jsonl:{tmp_path}?chunks=all&content=truncated(9)&flush_interval=0.5&fsync=interval:2.5&rotate_bytes=1000000"
            "&rotate_seconds=3600&compress=true&keep_files=5&keep_seconds=86400"
        )
        assert exporter.interval == 0.5
        assert str(exporter.content) == "truncated(9)"

    def test_an_option_can_be_switched_off_in_a_spec(self, tmp_path: Path) -> None:
        make_exporter(f"jsonl:{tmp_path}?rotate_bytes=null&keep_files=null")

    @pytest.mark.parametrize(
        "option",
        [
            "chunks=some",
            "content=much",
            "fsync=often",
            "fsync=interval:0",
            "fsync=interval:x",
            "flush_interval=0",
            "flush_interval=nan",
            "rotate_bytes=0",
            "rotate_bytes=10MB",
            "rotate_seconds=-1",
            "keep_files=0",
            "keep_seconds=0",
        ],
    )
    def test_a_value_that_cannot_work_is_refused_by_name(self, tmp_path: Path, option: str) -> None:
        name, _, _ = option.partition("=")
        with pytest.raises(ConfigurationError, match=name if name != "content" else "content policy"):
            make_exporter(f"jsonl:{tmp_path}?{option}")

    @pytest.mark.parametrize("fsync", ["never", "batch", "interval:0.001", "interval:1000"])
    @pytest.mark.parametrize("name", ["runs/", "log.jsonl"])
    def test_every_fsync_policy_writes_the_same(self, tmp_path: Path, fsync: str, name: str) -> None:
        exporter = open_exporter(f"jsonl:{tmp_path}/{name}?fsync={fsync}&rotate_bytes=500")
        for start in range(10):
            exporter.export(events(1, start=start))
        exporter.flush()
        exporter.close()
        assert sorted(keys(read(*tmp_path.iterdir()))) == keys(events(10))


class TestUnusablePaths:
    @pytest.mark.parametrize("path", ["", "  ", "a\0b", b"runs"])
    def test_no_path_at_all(self, path: str) -> None:
        with pytest.raises(ConfigurationError, match="folder"):
            JSONLExporter(path)

    def test_a_file_where_a_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "runs").write_text("")
        with pytest.raises(ConfigurationError, match=r"is a file: give a folder"):
            JSONLExporter(tmp_path / "runs")
        with pytest.raises(ConfigurationError, match=r"runs is a file"):
            JSONLExporter(tmp_path / "runs" / "below")

    @pytest.mark.parametrize("name", ["log.json", "log.ndjson", "log.jsonl.gz", "log.txt"])
    def test_a_name_that_looks_like_a_file_of_another_kind(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigurationError, match=r"\.jsonl"):
            JSONLExporter(tmp_path / name)
        JSONLExporter(f"{tmp_path / name}/")

    @posix
    def test_something_that_is_no_regular_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.jsonl")
        with pytest.raises(ConfigurationError, match="not a regular file"):
            JSONLExporter(tmp_path / "pipe.jsonl")

    @pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
    def test_no_permission(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(ConfigurationError, match="no permission"):
            JSONLExporter(tmp_path / "runs")

    def test_constructing_touches_nothing(self, tmp_path: Path) -> None:
        JSONLExporter(tmp_path / "runs")
        assert list(tmp_path.iterdir()) == []
