"""Command `sidestream serve`, run as a process."""

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

import pytest

STARTED = re.compile(r"Sidestream: (http://\S+)")


def serve(*arguments: str) -> list[str]:
    code = "from sidestream.cli import main; main()"
    return [sys.executable, "-c", code, "serve", *arguments]


@contextmanager
def served(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Running command, and the URL that it prints."""
    with subprocess.Popen(serve(*arguments), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = STARTED.match(process.stderr.readline())
            assert found is not None
            yield found[1], process
        finally:
            if process.poll() is None:
                process.kill()


def test_tells_its_address_answers_and_stops_at_ctrl_c_though_pages_are_open(log: Path) -> None:
    with served(str(log), "--port", "0") as (address, process):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert "3 runs of 4" in answer.read().decode()
        with urllib.request.urlopen(address + "live", timeout=60) as live:
            assert live.readline() == b"retry: 2000\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0


def test_asks_for_a_token_where_other_machines_come_in(log: Path) -> None:
    with served(str(log), "--port", "0", "--host", "0.0.0.0") as (address, _):
        port = re.search(r":(\d+)/\?token=[\w-]{20,}$", address)
        assert port is not None
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/", timeout=60)


def test_takes_the_token_from_the_environment(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other users of the machine cannot see the environment."""
    monkeypatch.setenv("SIDESTREAM_SERVE_TOKEN", "sixteen-letters-at-least")
    with served(str(log), "--port", "0") as (address, _):
        assert address.endswith("/?token=sixteen-letters-at-least")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such/log", "--port", "0"], "no log at no/such/log"),
        (["--token", "short", "."], "16 or more"),
        (["--host", "203.0.113.1", "."], "cannot listen on 203.0.113.1:8765"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    done = subprocess.run(serve(*arguments), capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_told(log: Path) -> None:
    with served(str(log), "--port", "0") as (address, _):
        port = address.rstrip("/").rpartition(":")[2]
        done = subprocess.run(serve(str(log), "--port", port), capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_without_its_libraries_says_what_to_install(log: Path) -> None:
    code = "import sys; sys.modules['jinja2'] = None; from sidestream.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert "pip install 'sidestream[review]'" in done.stderr
