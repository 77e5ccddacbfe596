"""Real Prometheus on a free port of the loopback interface, for the duration of a `with` block.

    with prometheus(targets=["127.0.0.1:9464"]) as server:
        server.until('sidestream_runs_total{agent="support"}', 3)

Used by the tests of the exporter and of the dashboards.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.loopback import free_port
from tests.support.missing import is_missing

Found = TypeVar("Found")

DEADLINE = 40.0
"""Maximum seconds to wait on a busy machine."""


def require(command: str) -> str:
    """Path of an installed `command`. Skips the test if it is missing; fails in CI."""
    path = shutil.which(command)
    if path is None:
        is_missing(f"{command} is not installed (on Debian: apt install prometheus)")
    return path


def wait_for(look: Callable[[], Found | None], what: str) -> Found:
    """Result of `look` once it is true; fails after `DEADLINE` seconds."""
    until = time.monotonic() + DEADLINE
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > until:
            pytest.fail(f"in vain for {DEADLINE:.0f} s: {what}")
        time.sleep(0.03)


class Prometheus:
    """Running server with an HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: Any) -> Any:
        """`data` of an API response; `path` such as `query` or `targets`. Fails on an error of the query."""
        query = urllib.parse.urlencode({k: v for k, v in parameters.items() if v is not None}, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=DEADLINE) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from None

    def query(self, query: str, time: float | None = None) -> list[dict[str, Any]]:
        """Result of an instant query: `[{"metric": {…}, "value": [unix time, "text"]}, …]`."""
        result: list[dict[str, Any]] = self.get("query", query=query, time=time)["result"]
        return result

    def value(self, query: str, time: float | None = None) -> float | None:
        """Value of a query with at most one result; None without a result."""
        found = self.query(query, time)
        assert len(found) <= 1, f"{query} has {len(found)} results"
        return float(found[0]["value"][1]) if found else None

    def query_range(self, query: str, start: float, end: float, step: float | str) -> list[dict[str, Any]]:
        """Result of a range query: `[{"metric": {…}, "values": [[unix time, "text"], …]}, …]`."""
        result: list[dict[str, Any]] = self.get("query_range", query=query, start=start, end=end, step=step)["result"]
        return result

    def exemplars(self, query: str, start: float | None = None, end: float | None = None) -> list[dict[str, Any]]:
        """Exemplars of a selector: `[{"seriesLabels": {…}, "exemplars": [{"labels": {…}, "value": …}, …]}, …]`."""
        now = time.time()
        found: list[dict[str, Any]] = self.get(
            "query_exemplars", query=query, start=now - 3600 if start is None else start, end=end or now + 60
        )
        return found

    def until(self, query: str, value: float) -> None:
        """Wait until `query` has one result, approximately `value`."""
        seen: list[float | None] = [None]

        def holds() -> bool:
            seen[0] = self.value(query)
            return seen[0] is not None and abs(seen[0] - value) <= 1e-9 + 1e-6 * abs(value)

        until = time.monotonic() + DEADLINE
        while not holds():
            if time.monotonic() > until:
                pytest.fail(f"{query} is {seen[0]} and not {value}")
            time.sleep(0.03)


@contextmanager
def prometheus(
    config: str | Mapping[str, Any] | None = None,
    *,
    targets: Sequence[str] | Mapping[str, Sequence[str]] = (),
    rules: str | Path | None = None,
    scrape_interval: str = "200ms",
    arguments: Sequence[str] = (),
) -> Iterator[Prometheus]:
    """Ready Prometheus with exemplar storage.

    Args:
        config: Configuration (YAML, or data for JSON, which is YAML too), instead of the arguments below.
        targets: Addresses (`127.0.0.1:9464`) to scrape as job `sidestream`, or by job. Discovery starts five seconds
            after the server, so tests should share servers.
        rules: File of recording and alerting rules.
        scrape_interval: Interval of scrapes and rule evaluation, and scrape timeout. On a busy machine a scrape may
            fail, and its series are missing until the next one.
        arguments: Further command-line arguments.
    """
    binary = require("prometheus")
    folder = Path(tempfile.mkdtemp(prefix="prometheus-"))
    if config is None:
        jobs = targets if isinstance(targets, Mapping) else {"sidestream": targets}
        config = {
            "global": {
                "scrape_interval": scrape_interval,
                "scrape_timeout": scrape_interval,
                "evaluation_interval": scrape_interval,
            },
            "rule_files": [str(Path(rules).resolve())] if rules else [],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in jobs.items()
            ],
        }
    file = folder / "prometheus.yml"
    file.write_text(config if isinstance(config, str) else json.dumps(config))
    process, url = _start(binary, file, folder, arguments)
    try:
        yield Prometheus(url)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _start(binary: str, file: Path, folder: Path, arguments: Sequence[str]) -> tuple[subprocess.Popen[bytes], str]:
    log = folder / "log"
    for _ in range(5):  # another program may take the port before the start
        port = free_port()
        with log.open("wb") as out:
            process = subprocess.Popen(
                [
                    binary,
                    f"--config.file={file}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--enable-feature=exemplar-storage",
                    "--log.level=warn",
                    *arguments,
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        url = f"http://127.0.0.1:{port}"
        if wait_for(partial(_ready_or_ended, url, process), "ready") == "ready":
            return process, url
    pytest.fail(f"prometheus does not start:\n{log.read_text()}")


def _ready_or_ended(url: str, process: subprocess.Popen[bytes]) -> str | bool:
    return "ready" if _is_ready(url) else process.poll() is not None


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
