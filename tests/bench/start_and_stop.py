"""Rows 10 and 11: time of the import and of the shutdown."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from .report import Spread, Table, progress, ratio, verdict
from .running import ROOT

IMPORTS = {
    "pydantic_ai": "import pydantic_ai",
    "sidestream": "import sidestream",
    "both, observing": "import pydantic_ai, sidestream.sources.pydantic_ai.capability, sidestream_exporters.jsonl",
}
HEAVY = ("pydantic_ai", "grpc", "opentelemetry.sdk", "structlog", "prometheus_client", "typer", "rich", "starlette")

_TIMED_IMPORT = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
{statement}
print(time.perf_counter() - wall, time.process_time() - cpu, *[name for name in {heavy} if name in sys.modules])
"""


def imports(*, rounds: int) -> Table:
    """Table of row 10: the import."""
    progress("imports")
    table = Table(
        f"10. Import in a fresh interpreter, {rounds} rounds in turns; median (quartiles)",
        "`sidestream` alone ≤ 1.15 of `pydantic_ai` alone",
    )
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in IMPORTS}
    heavy: dict[str, Sequence[str]] = {}
    for number in range(rounds + 1):
        for name, statement in IMPORTS.items():
            wall, cpu, *heavy[name] = _run(_TIMED_IMPORT.format(statement=statement, heavy=HEAVY)).split()
            if number:  # the first may have to compile
                taken[name][0].append(float(wall))
                taken[name][1].append(float(cpu))
    first = taken["pydantic_ai"]
    for name, (walls, cpus) in taken.items():
        table.add(
            imported=name,
            CPU_ms=Spread.of([seconds * 1e3 for seconds in cpus]),
            CPU_ratio=Spread.of_pairs(first[1], cpus, ratio),
            wall_ratio=Spread.of_pairs(first[0], walls, ratio),
            brings_in=", ".join(heavy[name]) or "none of the heavy ones",
            goal=verdict(Spread.of_pairs(first[1], cpus, ratio).median <= 1.15) if name == "sidestream" else None,
        )
    return table


_PROGRAM = """
import asyncio, os, sys, time
os.environ["PYDANTIC_AI_NO_BANNER"] = "1"
from pathlib import Path
from sidestream import Sidecar
from sidestream_exporters import JSONLExporter
from tests.bench.agents import consume_events, text_agent
from tests.bench.subjects import NOBODY, hanging_exporter
kinds, folder = {kinds}, Path({folder!r})
make = dict(
    jsonl=lambda: JSONLExporter(folder),
    hanging=hanging_exporter,
    console=lambda: "console",
    otlp=lambda: "otlp:" + NOBODY,
    prometheus=lambda: "prometheus:0",
    collect=lambda: "collect:?patience=0&otlp=" + NOBODY,
)
agent = text_agent(500)
sidecar = Sidecar(*[make[kind]() for kind in kinds], close_timeout={timeout}) if kinds else None
asyncio.run(consume_events(sidecar.observe(agent) if sidecar else agent))
time.sleep({settle})  # what hangs has done so for a while
if {by_exit}:
    print(time.time(), flush=True)
else:
    begun = time.perf_counter()
    sidecar and sidecar.close()
    print(time.perf_counter() - begun, flush=True)
"""


EVERY = ["console", "jsonl", "otlp", "prometheus"]
CASES: Sequence[list[str]] = ([], ["jsonl"], ["jsonl", "collect"], EVERY, [*EVERY, "hanging"], ["otlp", "hanging"])
"""Exporters of the programs that are shut down."""


def shutdown(*, rounds: int, timeout: float, cases: Sequence[list[str]] = CASES, settle: float = 1.2) -> Table:
    """Table of row 11: the shutdown.

    Args:
        rounds: Number of programs of each case.
        timeout: `close_timeout` of their sidecars.
        cases: Exporters of the programs.
        settle: Seconds between the last run and the shutdown.
    """
    table = Table(
        f"11. Shutdown, close_timeout {timeout:g} s, {rounds} rounds; median (quartiles)",
        "≤ 250 ms where the log holds what was not delivered (50 ms with a collector beside), else "
        f"≤ {timeout * 1e3 + 250:,.0f} ms",
        digits={"close ms": 0, "exit ms": 0},
    )
    for kinds in cases:
        goal = 0.05 if "collect" in kinds else 0.25 if "jsonl" in kinds else timeout + 0.25
        name = " + ".join(kinds) or "bare"
        progress(f"shutdown: {name}")
        table.add(
            exporters=name,
            close_ms=Spread.of([_close(kinds, timeout, settle, by_exit=False) * 1e3 for _ in range(rounds)]),
            exit_ms=Spread.of([_close(kinds, timeout, settle, by_exit=True) * 1e3 for _ in range(rounds)]),
            goal_ms=f"{goal * 1e3:,.0f}" if kinds else None,
        )
    table.notes.append("exit: without a close(), from the end of the program to that of its process; otlp: to nobody")
    return table


def _close(kinds: list[str], timeout: float, settle: float, *, by_exit: bool) -> float:
    with tempfile.TemporaryDirectory(prefix="sidestream-bench-") as folder:
        out = _run(_PROGRAM.format(kinds=kinds, folder=folder, timeout=timeout, settle=settle, by_exit=by_exit))
        return time.time() - float(out) if by_exit else float(out)


def _run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a benchmark program failed: {done.stderr.strip()[-500:]}")
    return done.stdout
