"""rotel, a real collector that receives and forwards OTLP."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.support.loopback import free_port, until
from tests.support.missing import is_missing


def program_of(package: str, path: str) -> str:
    """Path of a program in a PyPI package. Skips the test if it is missing; fails in CI."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        is_missing(f"{package}, which installs from PyPI, is not installed")
    return str(Path(spec.origin).parent / path)


def by_http(url: str) -> list[str]:
    """Arguments of a collector that hands everything on to an OTLP endpoint."""
    return ["--exporter", "otlp", "--otlp-exporter-endpoint", url, "--otlp-exporter-protocol", "http"]


@contextmanager
def collector(folder: Path, *exporter: str) -> Iterator[tuple[str, str]]:
    """Collector with the given exporter arguments; yields its URLs for gRPC and HTTP."""
    ports = [free_port(), free_port()]
    command = [
        program_of("rotel", "rotel-agent"),
        "start",
        "--pid-file",
        str(folder / "pid"),
        "--batch-timeout",
        "50ms",
    ]
    command += ["--otlp-grpc-endpoint", f"127.0.0.1:{ports[0]}", "--otlp-http-endpoint", f"127.0.0.1:{ports[1]}"]
    with running([*command, *exporter], folder, ports):
        yield f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"


@contextmanager
def running(command: list[str], folder: Path, ports: list[int]) -> Iterator[None]:
    """Run a program that listens on `ports` for the duration of the block."""
    said = folder / f"{Path(command[0]).name}.log"
    with said.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            until(lambda: process.poll() is not None or all(map(_listens, ports)), 60)
            assert process.poll() is None, said.read_text()
            yield
        finally:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
