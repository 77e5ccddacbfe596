"""Arize Phoenix, a real trace backend, on loopback, with queries to its API."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.loopback import free_port
from tests.support.missing import is_missing

PYTHON = Path(__file__).parents[2] / ".venv" / "phoenix" / "bin" / "python"

# Phoenix' gRPC server binds all interfaces; use any port of loopback instead.
SERVE = """
import sys
import grpc.aio._server as server
bind = server.Server.add_insecure_port
server.Server.add_insecure_port = lambda self, address: bind(self, "127.0.0.1:0")
from phoenix.server.main import main
sys.argv = ["phoenix", "serve"]
main()
"""


@dataclass(frozen=True)
class Phoenix:
    url: str

    def graphql(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            told = json.load(answer)
        assert not told.get("errors"), told
        return told["data"]

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """Spans of a trace, unordered; empty before the trace arrives."""
        query = """
            query ($trace: String!) { getTraceByOtelId(traceId: $trace) { spans(first: 1000) { edges { node {
                name spanId parentId spanKind statusCode statusMessage attributes
                tokenCountPrompt tokenCountCompletion tokenCountTotal
                costSummary { total { cost } prompt { cost } completion { cost } }
            } } } } }
        """
        trace = self.graphql(query, trace=trace_id)["getTraceByOtelId"]
        return [edge["node"] for edge in trace["spans"]["edges"]] if trace else []


def require_phoenix() -> None:
    """Skip the test if Phoenix is not installed; fail in CI."""
    if not PYTHON.exists():
        is_missing(f"Arize Phoenix is not installed in an environment of its own at {PYTHON.parents[1]}")


@contextmanager
def phoenix(folder: Path) -> Iterator[Phoenix]:
    """Phoenix with an empty database in `folder`."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PHOENIX_", "OTEL_"))},
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
    }
    log = (folder / "phoenix.log").open("w")
    process = subprocess.Popen([PYTHON, "-c", SERVE], env=environment, cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 300
        while not _answers(url):
            told = (folder / "phoenix.log").read_text()[-2_000:]
            assert process.poll() is None, f"Phoenix ended: {told}"
            assert time.monotonic() < deadline, f"Phoenix does not answer: {told}"
            time.sleep(0.1)
        yield Phoenix(url)
    finally:
        process.kill()
        process.wait()
        log.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
