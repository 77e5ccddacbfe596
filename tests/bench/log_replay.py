"""Row 8: speed and memory of a replay of a log to an OTLP endpoint and to Prometheus metrics."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .log_read import peak_mb
from .report import Table, progress
from .sink import Sink


def log_replay(*, events: int) -> Table:
    table = Table(
        f"8. replay of {events:,} events",
        "bounded memory, progress shown",
        digits={"seconds": 1, "events a second": 0, "peak MB": 0, "of read": 1},
    )
    from sidestream.demo.generate import generate

    folder = Path(tempfile.mkdtemp(prefix="sidestream-bench-"))
    sink = Sink()
    try:
        progress(f"replay: making a log of {events:,} events")
        log = generate(folder / "log.jsonl", events=events)
        reading = _in_process("read", log)["seconds"]
        for spec in (f"otlp:{sink.url}", "prometheus:0"):
            progress(f"replay: to {spec}")
            found = _in_process(spec, log)
            table.add(
                to=spec.partition(":")[0],
                seconds=found["seconds"],
                **{
                    "events a second": events / found["seconds"],
                    "of read": found["seconds"] / reading,
                    "exported": found["exported"],
                    "dropped": found["dropped"],
                    "peak MB": found["mb"],
                },
            )
        table.note("of read: ratio to reading the same events and doing nothing with them")
    finally:
        sink.close()
        shutil.rmtree(folder)
    return table


def _in_process(spec: str, log: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.log_replay", spec, log]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def _measure(spec: str, log: str) -> dict[str, Any]:
    from sidestream.log import read
    from sidestream.log.forwarding.replay import replay
    from sidestream.pipeline.registry import make_exporter

    begun = time.perf_counter()
    found: dict[str, Any] = {}
    if spec == "read":
        for _ in read(log):
            pass
    else:
        done = replay(log, make_exporter(spec), spec=spec)
        found = {"exported": done.exported, "dropped": sum(done.dropped.values())}
    return {"seconds": time.perf_counter() - begun, "mb": peak_mb(), **found}


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], sys.argv[2])))
