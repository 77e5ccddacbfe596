"""Row 5: many concurrent runs, and many events, without drops and within bounded memory."""

from __future__ import annotations

import asyncio
import gc
import resource
import threading
import time
import tracemalloc
from typing import Any

from .agents import consume_events, text_agent
from .report import Table, verdict
from .running import measure

EVERY = 0.002
"""Seconds between two bursts of events."""


def crowd(*, runs: int, seconds: float) -> Table:
    table = Table(
        f"5. {runs:,} runs at once, and 100,000 events a second for {seconds:g} s",
        "nothing dropped, memory bounded by the configuration",
        digits={"added MB": 1, "peak pending": 0, "a second": 0},
    )
    [bare] = measure(table, "bare", ("crowd", {"runs": runs})) or [{}]
    for found in measure(table, "sidestream", ("crowd", {"runs": runs})):
        table.add(
            case=f"{runs:,} runs at once, all exporters",
            events=found["seen"],
            dropped=found["dropped"],
            peak_pending=found["peak_pending"],
            added_MB=(found["bytes"] - bare["bytes"]) / 1e6 if bare else None,
            goal=verdict(found["dropped"] == 0),
        )
    for found in measure(table, "sidestream-jsonl", ("flood", {"seconds": seconds, "rate": 100_000})):
        table.add(
            case=f"100,000 events a second for {seconds:g} s, JSONL",
            events=found["seen"],
            dropped=found["dropped"],
            peak_pending=found["peak_pending"],
            added_MB=found["bytes"] / 1e6,
            a_second=found["rate"],
            goal=verdict(found["dropped"] == 0),
        )
    table.note("added MB: peak of Python's objects above bare; of the flood, growth of the process's peak memory")
    return table


# --- in the worker -------------------------------------------------------------------------------------------------


class _Watch:
    """Watcher of the buffers, with the highest fill level."""

    def __init__(self, sidecar: Any) -> None:
        self.peak = 0
        self._sidecar = sidecar
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, *(each.pending for each in self._sidecar.stats().exporters.values()))

    def found(self) -> dict[str, Any]:
        self._over.set()
        self._thread.join()
        books = self._sidecar.stats().exporters.values()
        return {
            "seen": max(each.seen for each in books),
            "dropped": sum(sum(each.dropped.values()) for each in books),
            "peak_pending": self.peak,
        }


def run_crowd(sidecar: Any, attach: Any, settle: Any, *, runs: int) -> dict[str, Any]:
    """Execute `runs` concurrent runs, each with ten chunks in one second."""
    asyncio.run(consume_events(attach(text_agent(3))))
    agent = attach(text_agent(10, pause=0.1))
    watch = None if sidecar is None else _Watch(sidecar)

    async def main() -> None:
        await asyncio.gather(*(consume_events(agent) for _ in range(runs)))

    gc.collect()
    tracemalloc.start()
    asyncio.run(main())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    settle()
    return {"bytes": peak, **(watch.found() if watch else {})}


def run_flood(sidecar: Any, settle: Any, *, seconds: float, rate: int) -> dict[str, Any]:
    """Emit `rate` events a second for `seconds` from one thread."""
    run = sidecar.open_run("flood", "flood", None)
    run.start()
    for _ in range(rate // 10):
        run.custom("word", "word ")
    settle()
    watch, before = _Watch(sidecar), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    sent = 0
    while (passed := time.perf_counter() - begun) < seconds:
        for _ in range(int(passed * rate) - sent):
            run.custom("word", "word ")
            sent += 1
        time.sleep(EVERY)
    taken = time.perf_counter() - begun
    settle()
    run.end("completed")
    sidecar.close_run(run)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"bytes": grown * 1024, "rate": sent / taken, **watch.found()}
