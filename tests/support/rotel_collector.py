"""rotel, a real collector: a program that takes OTLP and hands it on."""

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
    """The program that a package from PyPI brings. Without it the test is skipped, in the gate it fails."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        is_missing(f"{package}, which installs from PyPI, is not installed")
    return str(Path(spec.origin).parent / path)


@contextmanager
def collector(folder: Path, *exporter: str) -> Iterator[tuple[str, str]]:
    """A collector with the given arguments for what it hands on to; gives its addresses for gRPC and for HTTP."""
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
    """A program that listens on `ports` while the block runs."""
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
