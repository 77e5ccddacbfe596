"""Server of the metrics page under slow, numerous and silent clients."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from sidestream.pipeline import yielding
from sidestream.pipeline.yielding import GilYielder
from sidestream_exporters.prometheus import http_server
from sidestream_exporters.prometheus.http_server import MetricsServer, asgi_app, wsgi_app
from tests.support.prometheus_server import wait_for

pytestmark = pytest.mark.scenario_27

PAGE = b"# HELP a_total Some.\n" * 500


def rendered(accept: str) -> tuple[bytes, str]:
    return PAGE, "text/plain"


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    serving = MetricsServer("127.0.0.1", 0, rendered)
    yield serving
    serving.close()


def connect(server: MetricsServer, sent: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    client.sendall(sent)
    return client


def ask(server: MetricsServer, **headers: str) -> tuple[bytes, str | None]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read(), answer.headers.get("Content-Encoding")


def serving_threads() -> int:
    return sum(thread.name == "sidestream-metrics-client" for thread in threading.enumerate())


@pytest.mark.parametrize("asked", ["gzip", "deflate, gzip;q=0.5", "GZIP"])
def test_page_is_compressed_for_those_who_take_gzip(server: MetricsServer, asked: str) -> None:
    body, encoding = ask(server, **{"Accept-Encoding": asked})
    assert encoding == "gzip"
    assert gzip.decompress(body) == PAGE
    assert len(body) < len(PAGE) / 5


@pytest.mark.parametrize("asked", ["identity", "gzip;q=0", "br", "gzip;q=none"])
def test_page_is_plain_for_those_who_do_not(server: MetricsServer, asked: str) -> None:
    assert ask(server, **{"Accept-Encoding": asked}) == (PAGE, None)


def test_mounted_wsgi_application_compresses_too() -> None:
    told: list[list[tuple[str, str]]] = []
    app = wsgi_app(rendered)
    body = b"".join(app({"HTTP_ACCEPT_ENCODING": "gzip"}, lambda status, headers: told.append(headers)))
    assert gzip.decompress(body) == PAGE
    assert ("Content-Encoding", "gzip") in told[0]


def test_mounted_asgi_application_compresses_too() -> None:
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def receive() -> None:
        raise AssertionError("the page needs no body of the request")

    scope = {"type": "http", "method": "GET", "headers": [(b"accept-encoding", b"gzip")]}
    asyncio.run(asgi_app(rendered)(scope, receive, send))  # type: ignore[arg-type]
    assert (b"content-encoding", b"gzip") in sent[0]["headers"]  # type: ignore[operator]
    assert gzip.decompress(sent[1]["body"]) == PAGE  # type: ignore[arg-type]


@pytest.mark.parametrize(("timeout", "naps"), [("0.0001", False), ("1000", True), ("soon", True), ("nan", True)])
def test_a_page_is_rendered_in_one_go_when_the_time_of_the_scrape_runs_out(
    monkeypatch: pytest.MonkeyPatch, timeout: str, naps: bool
) -> None:
    slept: list[float] = []

    def render(accept: str) -> tuple[bytes, str]:
        yielder, begun = GilYielder(), time.perf_counter()
        while time.perf_counter() - begun < 0.05 and not slept:
            yielder.maybe_yield()
        return PAGE, "text/plain"

    serving = MetricsServer("127.0.0.1", 0, render)
    clock = {name: getattr(time, name) for name in ("perf_counter", "process_time", "thread_time")}
    monkeypatch.setattr(yielding, "time", SimpleNamespace(sleep=slept.append, **clock))
    try:
        body, _ = ask(serving, **{"Accept-Encoding": "identity", "X-Prometheus-Scrape-Timeout-Seconds": timeout})
    finally:
        serving.close()
    assert body == PAGE
    assert bool(slept) == naps


def test_silent_clients_take_a_bounded_number_of_threads_and_do_not_shut_out_a_scrape(server: MetricsServer) -> None:
    with ExitStack() as clients:
        for _ in range(4 * http_server.MAX_CLIENTS):
            clients.enter_context(connect(server))
        assert ask(server)[0] == PAGE
        wait_for(lambda: serving_threads() <= http_server.MAX_CLIENTS, "no more threads than clients are allowed")


def test_client_that_sends_a_byte_at_a_time_is_disconnected_at_the_deadline_of_its_request(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.5)

    def disconnected() -> bool:
        try:
            client.sendall(b"G")
        except OSError:
            return True
        return False

    with connect(server, b"GET /metrics HTTP/1.1\r\nX-Slow: ") as client:
        wait_for(disconnected, "the connection ends though the client never falls silent")


def test_client_that_does_not_read_its_page_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "RESPONSE_SECONDS", 0.5)
    serving = MetricsServer("127.0.0.1", 0, lambda accept: (b"x" * 50_000_000, "text/plain"))
    try:
        with connect(serving, b"GET /metrics HTTP/1.1\r\n\r\n"):
            wait_for(lambda: serving_threads() == 1, "the page is being sent")
            wait_for(lambda: serving_threads() == 0, "the client that does not read is put out")
    finally:
        serving.close()


def test_page_that_cannot_be_rendered_answers_500_and_the_next_request_is_served() -> None:
    pages = iter([ZeroDivisionError(), None])

    def render(accept: str) -> tuple[bytes, str]:
        if (fault := next(pages)) is not None:
            raise fault
        return PAGE, "text/plain"

    serving = MetricsServer("127.0.0.1", 0, render)
    try:
        with pytest.raises(urllib.error.HTTPError, match="500"):
            ask(serving)
        assert ask(serving)[0] == PAGE
    finally:
        serving.close()


WITHOUT_DESCRIPTORS = """
import os, resource, socket, time
from sidestream_exporters.prometheus.http_server import MetricsServer

server = MetricsServer("127.0.0.1", 0, lambda accept: (b"page", "text/plain"))
client = socket.socket()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
client.connect(("127.0.0.1", server.port))
used = time.process_time()
time.sleep(1.5)
print(time.process_time() - used)
for descriptor in taken:
    os.close(descriptor)
client.settimeout(20)
client.sendall(b"GET /metrics HTTP/1.0\\r\\n\\r\\n")
print(client.recv(100).split(b"\\r\\n")[0].decode())
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of open files are POSIX")
def test_program_out_of_descriptors_is_told_once_and_not_spun_in() -> None:
    ended = subprocess.run([sys.executable, "-c", WITHOUT_DESCRIPTORS], capture_output=True, text=True, timeout=60)
    used, status = ended.stdout.splitlines()
    assert float(used) < 0.5, "a spinning loop takes all of the 1.5 seconds"
    assert status.endswith("200 OK"), "the client that waited is answered once there are descriptors"
    assert ended.stderr.count("metrics cannot be served") == 1, ended.stderr


def test_listening_ends_at_once_with_a_client_still_there() -> None:
    serving = MetricsServer("127.0.0.1", 0, rendered)
    with connect(serving):
        wait_for(lambda: serving_threads() == 1, "the client is accepted")
        begun = time.monotonic()
        serving.close()
        assert time.monotonic() - begun < http_server.REQUEST_SECONDS
        with pytest.raises(OSError):
            connect(serving)
