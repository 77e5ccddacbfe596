"""Row 9: a scrape of a page with as many time series as a fleet in one process has."""

from __future__ import annotations

import asyncio
import math
import tempfile
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from .report import Spread, Table, progress, verdict

OPTIONS: dict[str, dict[str, Any]] = {
    "all metrics": {},
    "buckets=coarse": {"buckets": "coarse"},
    "metrics=-gen_ai_*": {"metrics": "-gen_ai_*"},
}
HEADERS = {
    "Accept": "application/openmetrics-text; version=1.0.0",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}
"""Headers of a scrape by Prometheus with its default time limit."""
TICK = 0.001
"""Seconds between two wake-ups of the event loop."""


def scrape(*, agents: int, models: int, tools: int, events: int, rounds: int, idle: float = 0.5) -> Table:
    """Table of row 9: the scrape.

    Args:
        agents: Number of agents; `models` and `tools` likewise.
        events: Number of counted events.
        rounds: Number of scrapes of each page.
        idle: Seconds for which the lateness of the event loop is measured without a scrape.
    """
    from sidestream_exporters import PrometheusExporter

    progress("scrapes")
    table = Table(
        f"9. Scrape, {agents} agents × {models} models × {tools} tools, {rounds} rounds; median (quartiles)",
        "wall ≤ 1.5 of the CPU time, the event loop ≤ 2 ms later at p99",
        digits={"series": 0, "MB": 1, "gzip MB": 2},
    )
    given = [_spread(event, agents, models, tools) for event in _events(events)]
    for name, options in OPTIONS.items():
        exporter = PrometheusExporter(0, **options)
        exporter.start()
        exporter.export(given)
        url = _address(exporter)
        walls, ratios, later = [], [], []
        encoded = b""
        for _ in range(rounds):
            alone = asyncio.run(_lateness(lambda: time.sleep(idle)))
            cpu, wall = time.process_time(), time.perf_counter()
            encoded = _read(url)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            beside = asyncio.run(_lateness(partial(_read, url)))
            walls.append(wall)
            ratios.append(wall / cpu)
            later.append((beside - alone) * 1e3)
        body = zlib.decompress(encoded, wbits=31)
        exporter.close()
        table.add(
            page=name,
            series=sum(not line.startswith(b"#") for line in body.splitlines()),
            MB=len(body) / 1e6,
            gzip_MB=len(encoded) / 1e6,
            wall_s=Spread.of(walls),
            wall_of_CPU=Spread.of(ratios),
            loop_later_ms_p99=Spread.of(later),
            goal=verdict(Spread.of(ratios).median <= 1.5, Spread.of(later).median <= 2),
        )
    table.note("wall of CPU: beside an idle event loop none runs; with other load on the machine the ratio is higher")
    return table


def _address(exporter: Any) -> str:
    while not exporter.url:
        time.sleep(0.01)
    return str(exporter.url)


def _read(url: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=HEADERS)) as answer:
        return bytes(answer.read())


async def _lateness(work: Callable[[], object]) -> float:
    """99th percentile of the lateness of an event loop, in seconds, while a thread runs `work`."""
    late: list[float] = []
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        due = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        late.append(time.perf_counter() - due)
    thread.join()
    return sorted(late)[math.ceil(len(late) * 0.99) - 1]


def _events(number: int) -> Iterator[Any]:
    from sidestream import log
    from sidestream.demo.generate import generate

    with tempfile.TemporaryDirectory(prefix="sidestream-bench-") as folder:
        generate(folder, events=number)
        yield from islice(log.events(folder), number)


def _spread(event: Any, agents: int, models: int, tools: int) -> Any:
    """`event` with names of an agent, model and tool that depend on its run only."""
    import msgspec

    def pick(salt: str, of: int) -> int:
        return zlib.crc32((salt + event.run_id).encode()) % of

    agent, data = pick("a", agents), event.data
    model = f"model-{(agent + pick('m', models)) % models:03d}"
    named = {"model": model, "response_model": model, "tool_name": f"tool-{pick('t', tools):03d}"}
    changed = {name: value for name, value in named.items() if getattr(data, name, None)}
    if changed:
        data = msgspec.structs.replace(data, **changed)
    return msgspec.structs.replace(event, agent_name=f"agent-{agent:03d}", data=data)
