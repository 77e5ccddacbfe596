"""Real runs, counted by the real exporter, scraped by a real Prometheus, and queried with the queries of the boards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic_ai

from dashboards.panels import REST
from dashboards.traffic import make_traffic
from sidestream import Exporter, InMemoryExporter, Sidecar, StreamEvent
from sidestream_exporters import JSONLExporter, PrometheusExporter
from tests.support.board_files import RULES, Asked, Json, filled, queries
from tests.support.prometheus_server import DEADLINE, Prometheus, prometheus, wait_for

RANGE_SECONDS = 4
VARIABLES = {
    "job": "sidestream",
    "instance": ".+",
    "agent": ".*",
    "model": ".*",
    "budget": "1000",
    "__range": f"{RANGE_SECONDS}s",
    "__range_s": f"{RANGE_SECONDS}",
    "__rate_interval": "3s",
}
"""Variables of a viewer. The windows are short to keep the test short."""

WHOLE = {**VARIABLES, "__range": "600s", "__range_s": "600", "__rate_interval": "600s"}
"""Time range that covers everything."""

Answer = list[dict[str, Any]]


class Broken(Exporter):
    """Exporter that delivers nothing, so that events are dropped."""

    name = "broken"

    def export(self, events: Sequence[StreamEvent]) -> None:
        raise RuntimeError("as it should")


@dataclass(frozen=True)
class FedPrometheus:
    server: Prometheus
    answers: Mapping[Asked, Answer]
    """Non-empty results by query, from a busy moment."""
    log: InMemoryExporter
    """Log of the same runs."""
    sidecar: Sidecar
    folder: Path
    """Folder of the log files."""

    def ask(self, query: Asked, variables: Mapping[str, str] = WHOLE) -> Answer:
        """Result after the end of the traffic. Retries, because a scrape may fail on a busy machine."""
        return wait_for(lambda: ask(self.server, query, variables), str(query))


@contextmanager
def live_feed(folder: Path) -> Iterator[FedPrometheus]:
    """Generate traffic until every query has a result, or for a bounded time, and wait until everything is scraped."""
    pydantic_ai.BANNER_ENABLED = False
    exporter, log = PrometheusExporter(0, label_tags="tenant"), InMemoryExporter()
    with Sidecar(exporter, log, JSONLExporter(folder), Broken(), stall_seconds=0.01) as sidecar:
        address = wait_for(lambda: exporter.url, "the exporter's address").removeprefix("http://").split("/")[0]
        with prometheus(targets=[address], rules=RULES, scrape_interval="500ms") as server:
            answers = asyncio.run(_traffic(sidecar, server))
            assert sidecar.flush(20).keys() <= {"broken"}
            server.until("sum(sidestream_runs_total)", len(log.of("agent_end")))
            yield FedPrometheus(server, answers, log, sidecar, folder)


async def _traffic(sidecar: Sidecar, server: Prometheus) -> dict[Asked, Answer]:
    traffic = asyncio.create_task(make_traffic(sidecar, speed=12))
    try:
        return await asyncio.to_thread(_ask_all, server)
    finally:
        traffic.cancel()
        await asyncio.gather(traffic, return_exceptions=True)


def _ask_all(server: Prometheus) -> dict[Asked, Answer]:
    """First non-empty result of each query, after two time ranges."""
    age = f"{2 * RANGE_SECONDS + 1}s"
    wait_for(lambda: server.query(f"sidestream_runs_total offset {age}"), "two time ranges")
    answers: dict[Asked, Answer] = {}
    pending = [query for query in queries() if query.target.get("legendFormat") != REST]
    until = time.monotonic() + 2 * DEADLINE
    while pending and time.monotonic() < until:
        for query in pending:
            if answer := ask(server, query):
                answers[query] = answer
        pending = [query for query in pending if query not in answers]
    return answers


def ask(server: Prometheus, query: Asked, variables: Mapping[str, str] = VARIABLES) -> Answer:
    """Query as Grafana does: at the end of the time range, or over the range. Drops series without numbers."""
    expr, now = filled(query.expr, variables), time.time()
    if query.target.get("instant"):
        found = server.query(expr, now)
    else:
        found = server.query_range(expr, now - RANGE_SECONDS, now, 0.5)
    return [series for series in found if numbers(series)]


def numbers(series: Json) -> list[float]:
    """Numeric values of a series."""
    pairs = series.get("values") or [series["value"]]
    values = [float(text) for _, text in pairs]
    return [value for value in values if value == value]
