"""Thousands of runs in one process, one in five abandoned, with every exporter at work; says what the process holds.

    python -m tests.soak [--runs 10000] [--seconds 60]

Ends at whichever comes first; 0 is without limit (`--runs 0 --seconds 3600` is an hour). Memory, threads and
descriptors are measured ten times. Exits with 1 if they are not flat in the second half.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import io
import math
import os
import sys
import tempfile
import threading
import time
from typing import NamedTuple

from pydantic_ai import Agent

from sidestream import Sidecar
from sidestream_exporters import ConsoleExporter, JSONLExporter, OTLPExporter, PrometheusExporter
from tests.support.abandoned_runs import abandon, two_pieces
from tests.support.otlp_receiver import Received, http_receiver

MEASUREMENTS = 10
BLOCKS_PER_RUN = 0.5
"""Allowed growth of the interpreter's memory; a leak of one object per run exceeds it."""


class ResourceUse(NamedTuple):
    """Memory, threads and descriptors of the process at one time."""

    runs: int
    blocks: int
    megabytes: float
    threads: int
    descriptors: int


def measure(runs: int) -> ResourceUse:
    gc.collect()
    megabytes, descriptors = 0.0, 0
    if os.path.isdir("/proc/self"):
        with open("/proc/self/statm") as file:
            megabytes = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        descriptors = len(os.listdir("/proc/self/fd"))
    held = ResourceUse(runs, sys.getallocatedblocks(), megabytes, threading.active_count(), descriptors)
    print(
        f"{held.runs:>9,} runs {held.blocks:>10,} blocks {held.megabytes:>8.1f} MB"
        f" {held.threads:>4} threads {held.descriptors:>4} descriptors",
        flush=True,
    )
    return held


def five_runs(agent: Agent[None, str]) -> None:
    async def complete() -> None:
        for _ in range(2):
            await agent.run("go")
        for _ in range(2):
            async with agent.run_stream("go") as stream:
                await stream.get_output()

    abandon(agent, 0)  # the other ways to abandon a run leak in pydantic-ai itself
    asyncio.run(complete())


def soak(
    agent: Agent[None, str], sidecar: Sidecar, collector: Received, runs: float, seconds: float
) -> list[ResourceUse]:
    begun, done, measured = time.monotonic(), 0, list[ResourceUse]()
    while True:
        gone = max((time.monotonic() - begun) / seconds, done / runs)
        if gone >= len(measured) / MEASUREMENTS and done:
            sidecar.flush(30)
            for kept in (collector.requests, collector.headers, collector.bodies):
                kept.clear()
            measured.append(measure(done))
        if gone >= 1:
            return measured
        five_runs(agent)
        done += 5


def wrongs(measured: list[ResourceUse], sidecar: Sidecar) -> list[str]:
    """Violated expectations, one line each."""
    first, last = measured[len(measured) // 2], measured[-1]
    found = []
    growth = (last.blocks - first.blocks) / max(1, last.runs - first.runs)
    if growth > BLOCKS_PER_RUN:
        found.append(f"memory grows by {growth:.2f} blocks a run")
    if last.threads > first.threads:
        found.append(f"threads grow from {first.threads} to {last.threads}")
    if last.descriptors > first.descriptors + 1:  # the log may be between two files
        found.append(f"descriptors grow from {first.descriptors} to {last.descriptors}")
    stats = sidecar.stats()
    if stats.runs_in_progress:
        found.append(f"{stats.runs_in_progress} runs did not end")
    for name, each in stats.exporters.items():
        if each.seen != each.exported + sum(each.dropped.values()) + each.pending:
            found.append(f"{name}: seen {each.seen}, exported {each.exported}, dropped {each.dropped}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, http_receiver() as collector:
        with Sidecar(
            ConsoleExporter(stream=Nowhere()),
            JSONLExporter(folder, rotate_bytes=2_000_000, keep_files=2),
            OTLPExporter(collector.url),
            PrometheusExporter(0),
        ) as sidecar:
            agent = sidecar.observe(Agent(two_pieces(), name="soaked"))
            measured = soak(agent, sidecar, collector, asked.runs or math.inf, asked.seconds or math.inf)
            found = wrongs(measured, sidecar)
    print("\n".join(found) or "flat")
    return 1 if found else 0


class Nowhere(io.StringIO):
    """Text stream that discards all output."""

    def write(self, text: str) -> int:
        return len(text)


if __name__ == "__main__":
    sys.exit(main())
