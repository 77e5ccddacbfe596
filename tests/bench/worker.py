"""Process that measures one subject and bare pydantic-ai in A-B-B-A rounds.

python -m tests.bench.worker SUBJECT '[["stream", {"mode": "events", …}], …]'

Prints one JSON object: what was measured, step by step, round by round. CPU times are those of the caller's thread (so
that a busy machine disturbs little) and of the whole process, the delivery of what was seen included.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")

from .agents import AGENT, consume_events, consume_text, gaps_of_events, run_tools, text_agent, tool_agent
from .crowd import run_crowd, run_flood
from .subjects import SUBJECTS, Subject

Samples = dict[str, list[float]]

STAGGER = 0.01
"""Seconds between the starts of concurrent runs, so that they do not wake the loop all at once."""


def _abba(subject: Subject, rounds: int, measure: Callable[[bool], dict[str, float]]) -> dict[str, Samples]:
    """Call `measure(observed)` in rounds of bare, observed, observed, bare, after a warm-up of each."""
    samples: dict[str, Samples] = {"bare": {}, "observed": {}}
    for order in [(False, True), *[(False, True, True, False)] * rounds]:
        sums: dict[bool, dict[str, float]] = {False: {}, True: {}}
        for observed in order:
            subject.switch(observed)
            gc.collect()
            for name, value in measure(observed).items():
                sums[observed][name] = sums[observed].get(name, 0.0) + value / 2
        if len(order) == 4:
            for observed, values in sums.items():
                for name, value in values.items():
                    samples["observed" if observed else "bare"].setdefault(name, []).append(value)
    return samples


def _cost(
    subject: Subject, rounds: int, agents: dict[bool, AGENT], use: Callable[[AGENT], Awaitable[None]]
) -> dict[str, Samples]:
    def measure(observed: bool) -> dict[str, float]:
        async def main() -> None:
            await use(agents[observed])

        process, thread, wall = time.process_time(), time.thread_time(), time.perf_counter()
        asyncio.run(main())
        taken = {"thread": time.thread_time() - thread, "wall": time.perf_counter() - wall}
        if observed:
            subject.settle()
        taken["process"] = time.process_time() - process
        subject.exported_bytes()
        return taken

    return _abba(subject, rounds, measure)


def stream(subject: Subject, *, deltas: int, rounds: int, mode: str) -> dict[str, Any]:
    """Seconds of one text stream."""
    agents = {False: text_agent(deltas), True: subject.attach(text_agent(deltas))}
    return _cost(subject, rounds, agents, consume_text if mode == "text" else consume_events)


def tools(subject: Subject, *, steps: int, rounds: int, result: Any) -> dict[str, Any]:
    """Seconds and exported bytes of one tool-heavy run."""
    agents = {False: tool_agent(steps, result), True: subject.attach(tool_agent(steps, result))}
    before = subject.exported_bytes()
    samples: dict[str, Any] = _cost(subject, rounds, agents, run_tools)
    after = subject.exported_bytes()
    if before is not None and after is not None:
        samples["bytes"] = (after - before) / (2 * rounds + 1)
    return samples


def memory(subject: Subject, *, steps: int, result: Any) -> dict[str, Any]:
    """Peak bytes of Python objects in one tool-heavy run, above the level before."""
    subject.switch(True)
    asyncio.run(run_tools(subject.attach(tool_agent(3, result))))
    subject.settle()
    agent = subject.attach(tool_agent(steps, result))
    gc.collect()
    # Resident memory would peak during the import of pydantic-ai.
    tracemalloc.start()
    asyncio.run(run_tools(agent))
    subject.settle()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"bytes": peak}


def gaps(subject: Subject, *, deltas: int, rounds: int, runs: int, pause: float | None) -> dict[str, Any]:
    """Percentiles in seconds of the gaps between events at the caller, and of the delay of the caller's event loop."""
    agents = {False: text_agent(deltas, pause=pause), True: subject.attach(text_agent(deltas, pause=pause))}

    def measure(observed: bool) -> dict[str, float]:
        gaps, late = asyncio.run(_gaps_and_lateness(agents[observed], runs))
        if observed:
            subject.settle()
        return {
            "gap_p99": _percentile(gaps, 0.99),
            "gap_p999": _percentile(gaps, 0.999),
            "gap_max": gaps[-1],
            "late_p99": _percentile(late, 0.99),
        }

    return _abba(subject, rounds, measure)


def crowd(subject: Subject, *, runs: int) -> dict[str, Any]:
    """Peak memory of many concurrent runs, and the counts of their events."""
    return run_crowd(subject.sidecar, subject.attach, subject.settle, runs=runs)


def flood(subject: Subject, *, seconds: float, rate: int) -> dict[str, Any]:
    """Counts of exported and dropped events in a flood of events."""
    return run_flood(subject.sidecar, subject.settle, seconds=seconds, rate=rate)


async def _gaps_and_lateness(agent: AGENT, runs: int) -> tuple[list[float], list[float]]:
    late: list[float] = []

    async def heartbeat() -> None:
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - asked - 0.001)

    beating = asyncio.create_task(heartbeat())
    starts = [number * STAGGER for number in range(runs)]
    gaps = await asyncio.gather(*(gaps_of_events(agent, start) for start in starts))
    beating.cancel()
    return sorted(gap for each in gaps for gap in each), sorted(late)


def _percentile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    measure.__name__: measure for measure in (stream, tools, memory, gaps, crowd, flood)
}


def main() -> None:
    name, steps = sys.argv[1], json.loads(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="sidestream-bench-", ignore_cleanup_errors=True) as folder:
        subject = SUBJECTS[name](Path(folder))
        measured = [MEASUREMENTS[measurement](subject, **options) for measurement, options in steps]
        print(json.dumps({"describe": subject.describe, "measured": measured}), flush=True)
        subject.close()


if __name__ == "__main__":
    main()
