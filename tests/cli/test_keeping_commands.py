"""`sidestream validate`, `export` and `redact`."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from sidestream.cli.tables import EVENT_COLUMNS, RUN_COLUMNS
from sidestream.events import AnyEvent, decode_line, encode_line
from sidestream.recording.content import ContentPolicy, apply_policy
from tests.support.command_line import invoke, mistake, summaries

pytestmark = pytest.mark.scenario_12

ORDER = re.compile(r"(?<![\w.:,\[-])4711(?![\w.-])")
"""The number in content only: in an id, a time or a list of offsets, the digits may occur by chance."""
WORDS = ("PP-12", "on its way", "digits only", "shipped", "overloaded", "refund", "card")
"""Words of the log's content."""


def lines_of(events: Sequence[AnyEvent]) -> list[bytes]:
    return [encode_line(event) for event in events]


class TestValidate:
    def test_all_is_well(self, log: Path, events: list[AnyEvent]) -> None:
        assert invoke("validate", log).stdout == f"1 file, 6 runs, {len(events)} events: no problems\n"

    def test_each_bad_line(self, events: list[AnyEvent], tmp_path: Path) -> None:
        """Each bad line is reported with file and line, in order, and the exit code is 1."""
        lines = lines_of(events)
        lines[3:3] = [b'{"foreign": 1}\n', b"{damaged\n", lines[0].replace(b'"v":1', b'"v":9')]
        file = tmp_path / "x.jsonl"
        file.write_bytes(b"\n".join([b"", *(line.rstrip() for line in lines)]) + b'\n{"torn":')
        faults = [line.split(": ")[:2] for line in invoke("validate", file, code=1).stdout.splitlines()[:-1]]
        last = len(lines) + 2
        assert faults == [
            [f"{file}:5", "foreign"],
            [f"{file}:6", "damaged"],
            [f"{file}:7", "future"],
            [f"{file}:{last}", "torn"],
        ]

    def test_incomplete_runs(self, events: list[AnyEvent], tmp_path: Path) -> None:
        """Reported for runs: a gap, a duplicate event, an event after the end, a missing start."""
        ids = list(dict.fromkeys(event.run_id for event in events))
        first, second = ([event for event in events if event.run_id == run_id] for run_id in ids[:2])
        del first[3:5]
        first.insert(4, first[3])
        late = msgspec.structs.replace(first[1], seq=first[-1].seq + 1)
        (tmp_path / "x.jsonl").write_bytes(b"".join(lines_of([*first, late, *second[1:]])))
        faults = json.loads(invoke("validate", tmp_path, "--json", code=1).stdout)["problems"]
        assert [(each["kind"], each["line"], each["run_id"]) for each in faults] == [
            ("twice", 5, first[0].run_id),
            ("after_end", len(first) + 1, first[0].run_id),
            ("gap", 4, first[0].run_id),
            ("no_start", len(first) + 2, second[0].run_id),
        ]
        assert "2 events are missing between 2 and 5" in faults[2]["message"]

    def test_chunks_that_were_not_logged(self, events: list[AnyEvent], tmp_path: Path) -> None:
        """Gaps are not reported for a run without any chunk, because chunks were not logged."""
        (tmp_path / "x.jsonl").write_bytes(b"".join(lines_of([e for e in events if e.event_type != "llm_chunk"])))
        assert "no problems" in invoke("validate", tmp_path).stdout

    def test_order_of_files(self, events: list[AnyEvent], tmp_path: Path) -> None:
        """A run that continues in a later file, compressed or not, has no gap."""
        lines = lines_of(events)
        (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[:20])))
        (tmp_path / "b.jsonl").write_bytes(b"".join(lines[20:]))
        assert "2 files" in invoke("validate", tmp_path).stdout

    def test_chosen_runs(self, events: list[AnyEvent], tmp_path: Path) -> None:
        """The options select runs; a bad line belongs to no run and is always reported."""
        lines = lines_of([event for event in events if not (event.agent_name == "support" and event.seq == 2)])
        (tmp_path / "x.jsonl").write_bytes(b"".join(lines))
        assert invoke("validate", tmp_path, code=1)
        assert "1 run," in invoke("validate", tmp_path, "--agent", "billing").stdout
        with (tmp_path / "x.jsonl").open("ab") as file:
            file.write(b"{}\n")
        assert "foreign" in invoke("validate", tmp_path, "--agent", "billing", code=1).stdout


class TestExport:
    def test_csv(self, log: Path, tmp_path: Path) -> None:
        """CSV has a row for each run; an unknown value is an empty cell, not 0."""
        out = tmp_path / "runs.csv"
        assert invoke("export", log, "--out", out).stdout == f"6 runs in {out}\n"
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == list(RUN_COLUMNS)
        for row, run in zip(rows, summaries(log), strict=True):
            assert (row["run_id"], row["started"]) == (run["run_id"], run["started"])
            assert (float(row["cost_usd"]) if row["cost_usd"] else None) == run["cost_usd"]
            assert json.loads(row["tags"]) == run["tags"]
        assert rows[0]["retries"] == "0"
        assert out.stat().st_mode & 0o077 == 0 or os.name == "nt"

    def test_events(self, log: Path, events: list[AnyEvent], tmp_path: Path) -> None:
        """The table of events has a row for each event, with the payload as JSON."""
        invoke("export", log, "--table", "events", "--out", tmp_path / "x.csv")
        with (tmp_path / "x.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == list(EVENT_COLUMNS)
        assert [(row["run_id"], int(row["seq"])) for row in rows] == [(event.run_id, event.seq) for event in events]
        assert json.loads(rows[0]["data"]) == json.loads(encode_line(events[0]))["data"]

    @pytest.mark.parametrize("table", ["runs", "events"])
    def test_parquet(self, log: Path, events: list[AnyEvent], tmp_path: Path, table: str) -> None:
        """Parquet has the same rows with types, and NULL for unknown values."""
        duckdb = pytest.importorskip("duckdb")
        out = tmp_path / "it's.parquet"
        invoke("export", log, "--table", table, "--out", out)
        assert [file.name for file in tmp_path.iterdir()] == [out.name]
        columns, when, rows = (
            (RUN_COLUMNS, "started", 6) if table == "runs" else (EVENT_COLUMNS, "timestamp", len(events))
        )
        with duckdb.connect() as database:
            found = database.execute("SELECT * FROM read_parquet(?)", [str(out)])
            assert [name for name, *_ in found.description] == list(columns)
            query = f'SELECT count(*), min(epoch_us("{when}")) FROM read_parquet(?)'
            counted = database.execute(query, [str(out)]).fetchall()
        assert counted == [(rows, round(events[0].timestamp.timestamp() * 1e6))]
        assert out.stat().st_mode & 0o077 == 0 or os.name == "nt"

    def test_page(self, log: Path, tmp_path: Path) -> None:
        """HTML export writes one run, by default the last."""
        pytest.importorskip("jinja2")
        invoke("export", log, "--out", tmp_path / "last.html")
        assert "Thank you!" in (tmp_path / "last.html").read_text("utf-8")
        invoke("export", log, "--run", summaries(log)[2]["run_id"][-8:], "--out", tmp_path / "run.html")
        assert "PP-12" in (tmp_path / "run.html").read_text("utf-8")

    def test_no_file_is_overwritten(self, log: Path, tmp_path: Path) -> None:
        (tmp_path / "runs.csv").write_text("mine")
        assert "exists already" in mistake("export", log, "--out", tmp_path / "runs.csv")
        assert (tmp_path / "runs.csv").read_text() == "mine"

    def test_nothing_found(self, log: Path, tmp_path: Path) -> None:
        """No file is written if no run matches."""
        for name in ("x.csv", "x.html"):
            invoke("export", log, "--agent", "nobody", "--out", tmp_path / name, code=1)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (["--out", "x.xlsx"], "the name must end in .parquet, .csv, .html"),
            (["--out", "x.csv", "--table", "tools"], "choose runs or events"),
            (["--out", "x.csv", "--run", "1234"], "--run is for .html"),
            (["--out", "/nowhere/at/all.csv"], "cannot be written"),
        ],
    )
    def test_mistake(self, log: Path, options: list[str], says: str) -> None:
        assert says in mistake("export", log, *options)

    def test_json(self, log: Path, tmp_path: Path) -> None:
        out = tmp_path / "x.csv"
        assert json.loads(invoke("export", log, "--out", out, "--json").stdout) == {"file": str(out), "rows": 6}


class TestRedact:
    @pytest.mark.parametrize("content", ["none", "metadata", "truncated(2)"])
    def test_policy(self, log: Path, events: list[AnyEvent], tmp_path: Path, content: str) -> None:
        """Every event is copied, with the content that an exporter with the policy would have written."""
        invoke("redact", log, "--out", tmp_path / "clean", "--content", content)
        (file,) = (tmp_path / "clean").iterdir()
        copied = [decode_line(line) for line in file.read_bytes().splitlines()]
        assert copied == [apply_policy(event, ContentPolicy.parse(content), None) for event in events]
        text = file.read_text("utf-8")
        assert not [word for word in WORDS if word in text]
        assert ORDER.search("".join(path.read_text("utf-8") for path in log.rglob("*.jsonl")))
        assert not ORDER.search(text)
        assert "no problems" in invoke("validate", tmp_path / "clean").stdout

    def test_for_its_owner_alone(self, log: Path, tmp_path: Path) -> None:
        invoke("redact", log, "--out", tmp_path / "new" / "clean")
        if os.name == "posix":
            for path in (tmp_path / "new" / "clean", *(tmp_path / "new" / "clean").iterdir()):
                assert path.stat().st_mode & 0o077 == 0

    def test_compressed(self, events: list[AnyEvent], tmp_path: Path) -> None:
        """The copy of a compressed file is compressed."""
        source = tmp_path / "x.jsonl.gz"
        source.write_bytes(gzip.compress(b"".join(lines_of(events))))
        invoke("redact", source, "--out", tmp_path / "clean")
        copied = gzip.decompress((tmp_path / "clean" / "x.jsonl.gz").read_bytes())
        assert len(copied.splitlines()) == len(events)

    def test_unreadable_lines_are_left_out(self, events: list[AnyEvent], tmp_path: Path) -> None:
        """Unreadable lines are left out and counted."""
        source = tmp_path / "x.jsonl"
        source.write_bytes(b'{"secret": "4711"}\n' + b"".join(lines_of(events)) + b'{"secret')
        result = invoke("redact", source, "--out", tmp_path / "clean", "--json")
        assert json.loads(result.stdout)["left_out"] == 2
        assert "could not read 2 lines" in result.stderr
        assert "secret" not in (tmp_path / "clean" / "x.jsonl").read_text("utf-8")

    def test_chosen_runs(self, log: Path, tmp_path: Path) -> None:
        invoke("redact", log, "--out", tmp_path / "clean", "--agent", "billing")
        assert [run["agent_name"] for run in summaries(tmp_path / "clean")] == ["billing"]

    def test_no_file_is_overwritten(self, log: Path, tmp_path: Path) -> None:
        """Neither the log nor any other file is overwritten."""
        copied = Path(shutil.copytree(log, tmp_path / "log"))
        before = {file: file.read_bytes() for file in copied.iterdir()}
        assert "new or empty" in mistake("redact", copied, "--out", copied)
        assert {file: file.read_bytes() for file in copied.iterdir()} == before

    def test_mistakes(self, log: Path, tmp_path: Path) -> None:
        assert "choose none, metadata" in mistake("redact", log, "--out", tmp_path / "x", "--content", "some")
        (tmp_path / "a").mkdir()
        for folder in (tmp_path, tmp_path / "a"):
            (folder / "same.jsonl").write_bytes(b"")
        assert "two files are called same.jsonl" in mistake("redact", tmp_path, tmp_path / "a", "--out", tmp_path / "b")
