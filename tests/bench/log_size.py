"""Row "size": questions to a log of millions of events, to its files with their index, and to ClickHouse.

Both stores get the same questions through one interface. Each part is measured in a process of its own, so that its
memory is known. CPU time includes that of ClickHouse's engine, which is another process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .log_read import peak_mb
from .report import Table, progress

PARTS = {
    "index built": "files",
    "collect catches up": "files",
    "inserted": "clickhouse",
    "questions": "both",
    "search": "both",
    "statistics": "both",
}
"""Parts of the measurement, each in a process of its own, with the stores that have them."""

ABSENT = "a text that no run contains"


def log_size(*, events: int, log: str | None = None, clickhouse: bool = True) -> Table:
    """Measure a generated log of `events` events, or the existing log at `log`."""
    table = Table(
        f"size: a log of {events:,} events",
        "first page < 0.3 s, one run < 0.1 s, ≤ 60 MB; index: 200,000 events a second, ≤ 10 % of the log",
        digits={"wall s": 3, "cpu s": 3, "events/s": 0, "peak MB": 0},
    )
    folder = Path(tempfile.mkdtemp(prefix="sidestream-bench-"))
    try:
        if log is None:
            from sidestream.demo.generate import generate

            progress(f"size: making a log of {events:,} events")
            log = generate(folder / "runs" / "log.jsonl", events=events)
        _measure_store(table, "files", log, log, events, engine=None)
        _note_sizes(table, Path(log))
        if clickhouse:
            from tests.support.clickhouse_server import clickhouse as server

            with server() as running:
                _measure_store(table, "clickhouse", log, running.address(), events, engine=running.pid)
    finally:
        shutil.rmtree(folder)
    return table


def _measure_store(table: Table, store: str, log: str, address: str, events: int, *, engine: int | None) -> None:
    for part, stores in PARTS.items():
        if stores not in (store, "both"):
            continue
        progress(f"size: {store}: {part}")
        command = [sys.executable, "-m", "tests.bench.log_size", part, log, address, *([str(engine)] if engine else [])]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        for question, (wall, cpu) in found["seconds"].items():
            reads_all = part not in ("questions", "search")
            table.add(
                store=store,
                question=question,
                **{
                    "wall s": wall,
                    "cpu s": cpu,
                    "events/s": events / cpu if reads_all else None,
                    "peak MB": found["mb"],
                },
            )


def _note_sizes(table: Table, log: Path) -> None:
    from sidestream.log.index.database import FOLDER

    size = sum(file.stat().st_size for file in log.parent.glob("*.jsonl*"))
    index = sum(file.stat().st_size for file in (log.parent / FOLDER).iterdir())
    table.note(f"the log: {size / 1e6:,.0f} MB, its index {index / 1e6:,.0f} MB: {index / size:.1%}")
    table.note("cpu s, events/s: with the engine's CPU time; peak MB: of the asking process alone")


# --- in a process of its own ---------------------------------------------------------------------------------------


def _measure(part: str, log: str, address: str, engine: str | None = None) -> dict[str, Any]:
    def cpu() -> float:
        return time.process_time() + (_cpu_of(engine) if engine else 0.0)

    seconds = {}
    for question, ask in _questions(part, log, address).items():
        begun, cpu_begun = time.perf_counter(), cpu()
        ask()
        seconds[question] = (time.perf_counter() - begun, cpu() - cpu_begun)
    return {"seconds": seconds, "mb": peak_mb()}


def _cpu_of(pid: str) -> float:
    """CPU seconds of another process (Linux)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def _questions(part: str, log: str, address: str) -> dict[str, Callable[[], object]]:
    from sidestream.log import Filter, Order, load_run, search, statistics
    from sidestream.log.index.database import FOLDER
    from sidestream.log.open_store import store_of

    store = store_of(address)
    match part:
        case "index built":
            shutil.rmtree(Path(log).parent / FOLDER, ignore_errors=True)
            return {part: lambda: store.page(None, Order(), limit=1)}
        case "collect catches up":
            return {part: lambda: _collect(log)}
        case "inserted":
            return {part: lambda: _insert(log, address)}
        case "search":
            some = store.page(None, Order(), limit=1).runs[0]
            return {
                "search, newest first, first hit": lambda: next(search(address, "parcel", newest_first=True), None),
                "search of a text in one hour": lambda: list(
                    search(address, ABSENT, where=Filter.parse(since="1h", now=some.started))
                ),
                "search of an absent text": lambda: list(search(address, ABSENT)),
            }
        case "statistics":
            return {part: lambda: statistics(address)}
    newest, *_, last = store.page(None, Order(), limit=100).runs
    agent = (newest.agent_name or "*",)
    return {
        "first page of 100 runs": lambda: store_of(address).page(None, Order(), limit=100),
        "page 200": lambda: store.page(None, Order(), limit=100, offset=19_900),
        "by cost": lambda: store.page(None, Order(by="cost"), limit=100),
        "filter: agent": lambda: store.page(Filter(agents=agent), Order(), limit=100),
        "filter: outcome": lambda: store.page(Filter(outcomes=("error",)), Order(), limit=100),
        "filter: tool and cost, by duration": lambda: store.page(
            Filter(tools=("*order*",), min_cost=0.001), Order(by="duration"), limit=100
        ),
        "conversations, first page": lambda: store.conversations(None, limit=50),
        "runs over time, for charts": lambda: store.over_time(None, bins=60),
        "run by the end of its id": lambda: store.called(last.run_id[-8:]),
        "one run opened": lambda: load_run(address, last.run_id),
    }


def _collect(log: str) -> None:
    from sidestream.log.forwarding.collect import Collector

    with tempfile.TemporaryDirectory() as checkpoint:
        collector = Collector(log, ["prometheus:0"], checkpoint)
        collector.start()
        before, exported = -1, 0
        while not exported or collector.behind_bytes() or exported != before:
            time.sleep(1.0)  # two polls of the collector
            before, exported = exported, collector.stats().exporters["prometheus"].exported
        collector.close()


def _insert(log: str, address: str) -> None:
    from sidestream.log.forwarding.replay import replay
    from sidestream_exporters.clickhouse import ClickHouseExporter

    done = replay(log, ClickHouseExporter(address, content="full"))
    if done.dropped:
        raise RuntimeError(f"ClickHouse took {done.exported} events, dropped: {done.dropped}")


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
