"""`sidestream collect` in a process of its own, and its metrics endpoint."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE = 60.0


class Collecting:
    """Running `sidestream collect`."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-c", "from sidestream.cli import main; main()", "collect", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> tuple[int, str]:
        """Terminate the process as a service manager does; returns the exit code and the output."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, out + err


@contextmanager
def collecting(*arguments: str | Path) -> Iterator[Collecting]:
    running = Collecting(*arguments)
    try:
        yield running
    finally:
        running.kill()


class Metrics:
    """Metrics endpoint on `port`."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def page(self) -> str | None:
        try:
            with self._open(self._url, timeout=10) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def total(self, name: str, **labels: str) -> float | None:
        """Sum of the series of `name` with these labels; None if the endpoint does not respond."""
        page = self.page()
        if page is None:
            return None
        found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", page, re.MULTILINE)
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        return sum(float(value) for given, value in found if wanted <= set(given.split(",")))
