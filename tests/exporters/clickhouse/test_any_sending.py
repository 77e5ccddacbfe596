"""Events inserted in any order, by several exporters, and repeatedly: queries of ClickHouse agree with log files."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sidestream import log
from sidestream.events import StreamEvent
from sidestream_exporters.clickhouse import ClickHouseExporter
from tests.support.clickhouse_server import ClickHouseServer, clickhouse
from tests.support.log_builder import run_events, write

EVENTS = [
    *run_events("one", tags={"tenant": "acme"}),
    *run_events("sub", agent="billing", parent_run_id="one", root_run_id="one", minutes=0.01),
    *run_events("cut", minutes=2, ended=False),
]
DATABASES = count()


class AnySending(RuleBasedStateMachine):
    """State machine of two exporters to one database; `sent` holds the expected events."""

    server: ClickHouseServer

    def __init__(self) -> None:
        super().__init__()
        database = f"any_{next(DATABASES)}"
        self.server.client().command(f"CREATE DATABASE {database}")
        self.address = self.server.address(database)
        self.exporters = [self.made(), self.made()]
        self.sent: dict[int, StreamEvent] = {}
        self.files = tempfile.TemporaryDirectory()

    def made(self) -> ClickHouseExporter:
        exporter = ClickHouseExporter(self.address, content="full")
        exporter.start()
        return exporter

    @rule(which=st.integers(0, 1), first=st.integers(0, len(EVENTS) - 1), size=st.integers(1, 20), turned=st.booleans())
    def send(self, which: int, first: int, size: int, turned: bool) -> None:
        batch = dict(list(enumerate(EVENTS))[first : first + size])
        self.exporters[which].export(list(batch.values())[:: -1 if turned else 1])
        self.sent.update(batch)

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.exporters[which].close()
        self.exporters[which] = self.made()

    @rule()
    def merge(self) -> None:
        """Merge parts now, which ClickHouse otherwise does in the background."""
        self.server.client().command(f"OPTIMIZE TABLE {self.address.rpartition('/')[2]}.sidestream_events FINAL")

    @invariant()
    def answers_as_files_do(self) -> None:
        folder = Path(self.files.name)
        write(folder / "log.jsonl", [self.sent[number] for number in sorted(self.sent)])
        assert seen(self.address) == seen(str(folder))

    def teardown(self) -> None:
        for exporter in self.exporters:
            exporter.close()
        self.files.cleanup()


def seen(paths: str) -> Any:
    """Summary of each run, and the events of each started run."""
    runs = {run.run_id: run for run in log.runs(paths)}
    numbers = {
        run_id: (
            run.events,
            run.missing,
            run.duplicates,
            run.outcome,
            run.cost_usd,
            run.tool_calls,
            dict(run.tags or {}),
        )
        for run_id, run in runs.items()
    }
    return numbers, {run_id: [each.event.seq for each in log.load_run(paths, run_id).events] for run_id in runs}


def test_whatever_is_sent_is_told_as_a_log_of_files_tells_it() -> None:
    with clickhouse() as server:
        run_state_machine_as_test(
            type("AnySendingThere", (AnySending,), {"server": server}),
            settings=settings(
                max_examples=2,
                stateful_step_count=6,
                deadline=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
