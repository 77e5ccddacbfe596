"""Cost of an event in each exporter, alone in one thread: content policy, encoding and sending included."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .agents import consume_events, run_tools, text_agent, tool_agent
from .report import Spread, Table, progress, verdict
from .sink import Sink

GOALS = {"jsonl": 3.0, "prometheus": 4.0, "console": 6.0, "otlp": 15.0}
"""Microseconds."""
BATCH = 256


def exporter_cost(*, events: int, rounds: int) -> Table:
    """Cost of each exporter for the same events of real runs, half of them tool-heavy, in alternating rounds.

    Its own work is one column. The other is the same with the naps in which other threads get the GIL.
    """
    from sidestream.pipeline.yielding import hurrying
    from sidestream.recording.content import apply_policy

    progress("exporters, an event each")
    table = Table(
        f"An event alone in one thread, {events:,} events, {rounds} interleaved rounds; median (quartiles)",
        ", ".join(f"{name} ≤ {goal:g} µs" for name, goal in GOALS.items()),
    )
    given = _events(events)
    taken: dict[tuple[str, bool], list[float]] = {(name, naps): [] for name in GOALS for naps in (False, True)}
    for number in range(rounds + 1):
        for name, naps in taken:
            make = _exporters()[name]
            with tempfile.TemporaryDirectory() as folder, hurrying(math.inf if naps else 0):
                exporter, close = make(Path(folder))
                exporter.start()
                gc.collect()
                begun = time.process_time()
                for batch in (given[i : i + BATCH] for i in range(0, len(given), BATCH)):
                    exporter.export(
                        [apply_policy(e, exporter.content, None) for e in batch if e.event_type not in exporter.skip]
                    )
                exporter.flush()
                if number:  # the first warms up
                    taken[name, naps].append((time.process_time() - begun) / len(given) * 1e6)
                exporter.close()
                close()
    for name in GOALS:
        own, with_naps = Spread.of(taken[name, False]), Spread.of(taken[name, True])
        table.add(exporter=name, µs_an_event=own, with_naps=with_naps, goal=verdict(own.median <= GOALS[name]))
    table.note("with naps: letting go of the GIL between slices, as beside an agent; a nap is a call of the system")
    return table


def _events(number: int) -> Sequence[Any]:
    from sidestream import InMemoryExporter, Sidecar

    memory = InMemoryExporter()
    with Sidecar(memory, buffer_events=10 * number) as sidecar:
        text, tools = sidecar.observe(text_agent(1_000)), sidecar.observe(tool_agent(20, "text"))
        while len(memory) < number:
            asyncio.run(consume_events(text))
            asyncio.run(run_tools(tools))
            sidecar.flush()
    return memory.events[:number]


def _exporters() -> dict[str, Callable[[Path], tuple[Any, Callable[[], object]]]]:
    from sidestream_exporters import ConsoleExporter, JSONLExporter, OTLPExporter, PrometheusExporter

    def console(_: Path) -> tuple[Any, Callable[[], object]]:
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, closed with the exporter
        return ConsoleExporter(stream=nowhere), nowhere.close

    def otlp(_: Path) -> tuple[Any, Callable[[], object]]:
        sink = Sink()
        return OTLPExporter(sink.url), sink.close

    return {
        "jsonl": lambda folder: (JSONLExporter(folder / "runs"), lambda: None),
        "prometheus": lambda _: (PrometheusExporter(port=0), lambda: None),
        "console": console,
        "otlp": otlp,
    }
