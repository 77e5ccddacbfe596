"""Row 7: speed of reading a log, compared with `cat` of the same events, one per line.

The log is made (`sidestream demo --events`), as the exporter writes it: the deltas of a tenth of a second in one line;
and once more with a line for each delta. Each way of reading has a process of its own, so that its memory is known.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .report import Spread, Table, progress, ratio, verdict

WAYS = ("events", "runs, first time", "runs", "stats", "one run")
MERGED, SINGLE = "merged", "one delta a line"


def log_read(*, events: int, rounds: int) -> Table:
    table = Table(
        f"7. reading back {events:,} events, {rounds} interleaved rounds; median (quartiles)",
        f"{MERGED} ≤ 0.5 of cat; {SINGLE} ≤ 4 for all events, ≤ 1.5 for runs and stats; ≤ 50 MB; one run in < 0.1 s",
        digits={"seconds": 3, "peak MB": 0},
    )
    folder = Path(tempfile.mkdtemp(prefix="sidestream-bench-"))
    try:
        logs = _logs(folder, events)
        taken: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
        cats: list[dict[str, float]] = []
        for number in range(rounds):
            progress(f"reading: round {number + 1}")
            cats.append(_cat(logs[SINGLE]))
            for kind, path in logs.items():
                for way in WAYS:
                    taken[kind, way].append(_in_process(way, path))
        table.add(log=SINGLE, way="cat", seconds=Spread.of([each["seconds"] for each in cats]))
        for (kind, way), found in taken.items():
            ratios = {
                f"{name}/cat": Spread.of_pairs([each[name] for each in cats], [each[name] for each in found], ratio)
                for name in ("seconds", "cpu")
            }
            peaks = [each["mb"] for each in found if each["mb"] is not None]
            seconds = Spread.of([each["seconds"] for each in found])
            limit = (0.5 if kind == MERGED else 4.0) if way == "events" else 1.5
            quick = seconds.median < 0.1 if way == "one run" else ratios["cpu/cat"].median <= limit
            table.add(
                log=kind,
                way=way,
                seconds=seconds,
                **ratios,
                **{"peak MB": Spread.of(peaks) if peaks else None},
                goal=verdict(quick, not peaks or max(peaks) <= 50),
            )
        sizes = ", ".join(f"{kind} {path.stat().st_size / 1e6:,.0f} MB" for kind, path in logs.items())
        table.note(f"the log: {sizes}; cat: through a pipe, read at its other end")
        table.note("first time: the index is made; peak MB: of the whole process, 27 of which are Python and imports")
    finally:
        shutil.rmtree(folder)
    return table


def _logs(folder: Path, events: int) -> dict[str, Path]:
    """Two logs of about `events` events, one with merged deltas and one with a line for each delta."""
    from sidestream import log
    from sidestream.demo.generate import generate
    from sidestream_exporters.jsonl import JSONLExporter

    progress(f"reading: making a log of {events:,} events")
    for name in (MERGED, SINGLE):
        (folder / name).mkdir()
    merged = Path(generate(folder / MERGED / "log.jsonl", events=events // 4))  # its chunks hold some seven deltas
    single = folder / SINGLE / "log.jsonl"
    exporter = JSONLExporter(single, chunks="all", rotate_bytes=None)
    exporter.start()
    for batch in _batches(log.read(merged)):
        exporter.export(batch)
    exporter.close()
    return {MERGED: merged, SINGLE: single}


def _batches(events: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := [event for _, event in zip(range(1_000), events, strict=False)]:
        yield batch


def _cat(path: Path) -> dict[str, float]:
    begun, cpu_begun = time.perf_counter(), _cpu()
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE, bufsize=0) as cat:
        assert cat.stdout is not None
        while cat.stdout.read(1 << 20):
            pass
    return {"seconds": time.perf_counter() - begun, "cpu": _cpu() - cpu_begun}


def _cpu() -> float:
    """CPU seconds of this process and its ended children."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _in_process(way: str, path: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.log_read", way, str(path)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


# --- in a process of its own ---------------------------------------------------------------------------------------


def _measure(way: str, path: Path) -> dict[str, float | None]:
    from sidestream import log
    from sidestream.log.index.database import FOLDER

    def first_run() -> str:
        return next(iter(log.read(path))).run_id

    acts: dict[str, Callable[[], object]] = {
        "events": lambda: sum(1 for _ in log.read(path)),
        "runs, first time": lambda: log.runs(path),
        "runs": lambda: log.runs(path),
        "stats": lambda: log.statistics(path),
        "one run": lambda: log.load_run(path, run_id),
    }
    run_id = ""
    if way == "one run":
        run_id = first_run()
    elif way == "runs, first time":
        shutil.rmtree(path.parent / FOLDER, ignore_errors=True)
    begun, cpu_begun = time.perf_counter(), time.process_time()
    acts[way]()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu_begun
    return {"seconds": seconds, "cpu": cpu, "mb": peak_mb()}


def peak_mb() -> float | None:
    """Peak memory of this process. `ru_maxrss` would start at the peak of the parent process."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], Path(sys.argv[2]))))
