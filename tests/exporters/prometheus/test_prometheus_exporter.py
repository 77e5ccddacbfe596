"""Prometheus exporter: settings, page in both formats, mounting, push gateway, occupied port, forks."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import msgspec
import prometheus_client
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from sidestream import ConfigurationError, Sidecar
from sidestream.errors import ExporterUnavailable
from sidestream.metrics.definitions import BY_NAME
from sidestream.pipeline.registry import make_exporter
from sidestream_exporters import PrometheusExporter
from tests.support.loopback import free_port
from tests.support.metric_samples import ended, on_page, page, run_of, started
from tests.support.prometheus_server import require, wait_for
from tests.support.provider_model import run_variety
from tests.support.raw_server import raw_server
from tests.support.subprograms import OBSERVED, run_program

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
"""`Accept` header of Prometheus."""
SECRET = "s3ntinel-of-the-test"


def get(url: str, accept: str = "") -> tuple[str, str]:
    """Page and content type."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


def record(sidecar: Sidecar, run_id: str = "r1", agent: str = "a") -> None:
    """Record a run without an agent."""
    run = sidecar.open_run(run_id, agent, None)
    run.start(model="gpt-5")
    run.end("completed")
    sidecar.close_run(run)


def url_of(exporter: PrometheusExporter) -> str:
    return wait_for(lambda: exporter.url, "the endpoint to open")


# --- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "host", "address"),
    [
        ("auto", None, ("127.0.0.1", 9464)),
        (9000, None, ("127.0.0.1", 9000)),
        ("9000", None, ("127.0.0.1", 9000)),
        ("0.0.0.0:9000", None, ("0.0.0.0", 9000)),
        ("[::1]:9000", None, ("::1", 9000)),
        (9000, "10.1.2.3", ("10.1.2.3", 9000)),
        (None, None, None),
    ],
)
def test_where_it_listens(port: Any, host: str | None, address: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_PROMETHEUS_HOST", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_PROMETHEUS_PORT", raising=False)
    assert PrometheusExporter(port, host=host)._address == address


def test_an_argument_beats_the_environment_which_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "10.0.0.1")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "9999")
    assert PrometheusExporter()._address == ("10.0.0.1", 9999)
    assert PrometheusExporter(9000)._address == ("10.0.0.1", 9000)
    assert PrometheusExporter(host="127.0.0.1")._address == ("127.0.0.1", 9999)


@pytest.mark.parametrize("port", ["nonsense", "70000", "-1", "", "host:", "9464x", True, 1.5])
def test_a_port_that_cannot_be_is_an_error_at_once(port: Any) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"port={port!r}: must be a port from 0 to 65535")):
        PrometheusExporter(port)


def test_so_is_one_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "http")
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_PROMETHEUS_PORT='http'"):
        PrometheusExporter()


@pytest.mark.parametrize("push", ["", "127.0.0.1:9091", "ftp://x", "http://", "http://u:p@h:1", "http://h:none"])
def test_a_gateway_that_cannot_be_is_an_error_that_shows_no_password(push: str) -> None:
    with pytest.raises(ConfigurationError, match="must be a URL such as") as caught:
        PrometheusExporter(push=push)
    assert "u:p" not in str(caught.value)


def test_made_by_name() -> None:
    exporter = make_exporter("prometheus:0.0.0.0:9464?label_values=7")
    assert isinstance(exporter, PrometheusExporter)
    assert exporter._address == ("0.0.0.0", 9464)
    with pytest.raises(ConfigurationError, match="label_values=0"):
        make_exporter("prometheus:?label_values=0")


# --- the page ------------------------------------------------------------------------------------------------------


def test_it_is_there_before_the_first_run_and_gone_after_the_close() -> None:
    exporter = PrometheusExporter(port=0)
    with Sidecar(exporter) as sidecar:
        url = url_of(exporter)
        text, _ = get(url)
        assert on_page(text, "sidestream_recording_errors_total") == 0
        assert on_page(text, "sidestream_runs_total") is None
        record(sidecar)
        sidecar.flush()
        assert on_page(get(url)[0], "sidestream_runs_total", agent="a", outcome="completed") == 1
    assert exporter.url is None


def test_each_format_is_given_to_who_asks_for_it_and_exemplars_in_openmetrics_alone() -> None:
    exporter = PrometheusExporter(port=0)
    with Sidecar(exporter) as sidecar:
        record(sidecar)
        sidecar.flush()
        plain, plain_type = get(url_of(exporter))
        rich, rich_type = get(url_of(exporter), OPENMETRICS)
    assert plain_type.startswith("text/plain; version=0.0.4")
    assert rich_type.startswith("application/openmetrics-text; version=1.0.0")
    assert "# {" not in plain
    assert rich.endswith("# EOF\n")
    exemplars = [s.exemplar for f in openmetrics(rich) for s in f.samples if s.exemplar]
    assert exemplars
    for exemplar in exemplars:
        assert set(exemplar.labels) == {"trace_id", "span_id", "run_id"}
        assert sum(len(name) + len(text) for name, text in exemplar.labels.items()) <= 128


def test_openmetrics_alone_tells_when_each_counter_and_histogram_began(monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.time()
    exporter = PrometheusExporter(port=None)
    exporter.export(run_of(started(), ended()))
    plain, rich = (exporter.render(accept)[0].decode() for accept in ("", OPENMETRICS))
    assert "_created" not in plain
    for family in openmetrics(rich):
        began = {frozenset(s.labels.items()): s.value for s in family.samples if s.name == f"{family.name}_created"}
        if family.type in ("counter", "histogram"):
            series = {frozenset(s.labels.items()) for s in family.samples if s.name.endswith(("_total", "_count"))}
            assert began.keys() == series
            assert all(before <= value <= time.time() for value in began.values())
        else:
            assert not began
    monkeypatch.setattr(prometheus_client.metrics, "_use_created", False)
    assert "_created" not in exporter.render(OPENMETRICS)[0].decode()


def test_a_time_series_that_goes_on_in_another_process_began_in_the_first() -> None:
    first, second = PrometheusExporter(port=None), PrometheusExporter(port=None)
    first.export(run_of(started(), ended()))
    second.load_state(msgspec.json.decode(msgspec.json.encode(first.dump_state())))
    ours, theirs = (
        [line for line in exporter.render(OPENMETRICS)[0].splitlines() if b"_created" in line]
        for exporter in (first, second)
    )
    assert ours == theirs != []


def test_the_samples_of_both_formats_are_the_same() -> None:
    exporter = PrometheusExporter(port=None)
    exporter.export(run_of(started(), ended()))
    rich = {
        (s.name, frozenset((k, v) for k, v in s.labels.items() if v)): s.value
        for family in openmetrics(exporter.render(OPENMETRICS)[0].decode())
        for s in family.samples
        if not s.name.endswith("_created")
    }
    assert rich == page(exporter.render()[0])


def test_an_exemplar_that_cannot_hold_the_run_id_does_without_it() -> None:
    exporter = PrometheusExporter(port=None)
    for run_id in ("r" * 100, "\udc80"):
        exporter.export(run_of(started(run_id), ended(), run_id=run_id))
    text = exporter.render(OPENMETRICS)[0].decode()
    assert "trace_id=" in text
    assert "run_id=" not in text


def test_promtool_has_nothing_to_say_against_the_page() -> None:
    promtool = require("promtool")
    exporter = PrometheusExporter(port=None)
    with Sidecar(exporter) as sidecar:
        run_variety(sidecar)
        sidecar.flush()
        text = exporter.render()[0]
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_names_as_hostile_as_can_be_leave_a_page_that_can_be_read() -> None:
    exporter = PrometheusExporter(port=None)
    names = [
        'quote " and \\ slash',
        "line\nbreak",
        "lone \udc80",
        "\x00\x1b[31m",
        "",
        "naïve 模型 🙂",
        'x{a="b"} 1\n# EOF',
    ]
    for name in names:
        exporter.export(run_of(started(model=name), ended(exception_type=name, outcome="error"), agent=name))
    for accept in ("", OPENMETRICS):
        assert exporter.render(accept)[0].decode()
    assert on_page(exporter.render()[0], "sidestream_runs_total") == len(names)
    assert list(openmetrics(exporter.render(OPENMETRICS)[0].decode()))


@pytest.mark.scenario_19
def test_a_secret_in_any_content_is_not_on_the_page() -> None:
    exporter = PrometheusExporter(port=None)
    with Sidecar(exporter) as sidecar:
        run_variety(sidecar, SECRET)
        sidecar.flush()
        text = exporter.render()[0] + exporter.render(OPENMETRICS)[0]
    assert b"sidestream_tool_calls_total" in text
    assert SECRET.encode() not in text


def test_an_event_that_cannot_be_counted_is_lost_alone_and_reported() -> None:
    exporter = PrometheusExporter(port=None)
    wrong = run_of(started(), ended(duration_seconds="long"))
    right = run_of(started("r2"), ended(), run_id="r2")
    assert exporter.export([*wrong, *right]) == {"error": 1}
    assert on_page(exporter.render()[0], "sidestream_runs_total") == 1


def test_other_paths_are_not_found() -> None:
    exporter = PrometheusExporter(port=0)
    with Sidecar(exporter):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(url_of(exporter).replace("/metrics", "/secrets"))


def test_a_client_that_says_nothing_keeps_nobody_waiting() -> None:
    exporter = PrometheusExporter(port=0)
    with Sidecar(exporter) as sidecar:
        port = int(url_of(exporter).split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port)):
            assert on_page(get(url_of(exporter))[0], "sidestream_build_info") == 1
            assert sidecar.close() == {}


# --- in an application ---------------------------------------------------------------------------------------------


def test_mounted_in_fastapi_it_answers_in_both_formats() -> None:
    exporter = PrometheusExporter(port=None)
    app = FastAPI()
    app.mount("/metrics", exporter.asgi_app())
    with Sidecar(exporter) as sidecar, TestClient(app) as client:
        record(sidecar)
        sidecar.flush()
        plain = client.get("/metrics")
        assert on_page(plain.text, "sidestream_runs_total") == 1
        assert plain.headers["content-type"].startswith("text/plain")
        rich = client.get("/metrics", headers={"Accept": OPENMETRICS})
        assert rich.headers["content-type"].startswith("application/openmetrics-text")
        assert client.head("/metrics").text == ""


def test_mounted_it_renders_beside_the_event_loop() -> None:
    exporter = PrometheusExporter(port=None)
    threads: list[str] = []
    exporter.bind(lambda: threads.append(threading.current_thread().name))  # type: ignore[arg-type, return-value]
    app = FastAPI()
    app.mount("/metrics", exporter.asgi_app())

    @app.get("/loop")
    async def loop() -> str:
        return threading.current_thread().name

    with TestClient(app) as client:
        client.get("/metrics")
        assert threads
        assert client.get("/loop").json() not in threads


def test_as_a_wsgi_application() -> None:
    exporter = PrometheusExporter(port=None)
    exporter.export(run_of(started(), ended()))
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    said: list[Any] = []
    body = b"".join(exporter.wsgi_app()(environ, lambda *args: said.append(args)))
    assert said[0][0] == "200 OK"
    assert on_page(body, "sidestream_runs_total") == 1


def test_a_registry_of_the_application_gets_the_metrics_next_to_its_own_and_nothing_is_served() -> None:
    registry = CollectorRegistry()
    prometheus_client.Counter("app_orders", "Orders.", registry=registry).inc(3)
    exporter = PrometheusExporter(registry=registry)
    with Sidecar(exporter) as sidecar:
        record(sidecar)
        sidecar.flush()
        text = prometheus_client.generate_latest(registry)
        assert (on_page(text, "app_orders_total"), on_page(text, "sidestream_runs_total")) == (3, 1)
        assert exporter.url is None
        with pytest.raises(ConfigurationError, match="registry has metrics of these names"):
            PrometheusExporter(registry=registry)
    PrometheusExporter(registry=registry)  # allowed after the first exporter is closed


# --- a port that is taken ------------------------------------------------------------------------------------------


@contextmanager
def said() -> Iterator[io.StringIO]:
    """Log messages of Sidestream."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("sidestream")
    logger.addHandler(handler)
    try:
        yield stream
    finally:
        logger.removeHandler(handler)


def test_a_taken_port_is_said_once_and_the_runs_are_counted_when_it_is_free() -> None:
    with said() as words, socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        exporter = PrometheusExporter(port=other.getsockname()[1])
        sidecar = Sidecar(exporter)
        record(sidecar)
        wait_for(lambda: sidecar.stats().exporters["prometheus"].failures >= 2, "a second try")
        stats = sidecar.stats().exporters["prometheus"]
        assert (stats.state, stats.exported, stats.pending, stats.seen) == ("failing", 0, 2, 2)
        other.close()
        wait_for(lambda: exporter.url, "the endpoint to open")
        wait_for(lambda: sidecar.stats().exporters["prometheus"].exported == 2, "the events to be counted")
        assert on_page(get(url_of(exporter))[0], "sidestream_runs_total") == 1
        assert sidecar.close() == {}
    assert words.getvalue().count("metrics endpoint cannot be opened") == 1
    assert "PROMETHEUS_MULTIPROC_DIR" in words.getvalue()


def test_with_the_port_taken_to_the_end_a_close_is_bounded_and_counts_what_it_drops() -> None:
    with said(), socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        sidecar = Sidecar(PrometheusExporter(port=other.getsockname()[1]))
        record(sidecar)
        assert sidecar.close(timeout=20) == {"prometheus": 2}
        stats = sidecar.stats().exporters["prometheus"]
        assert stats.dropped == {"shutdown": 2}
        assert stats.seen == stats.exported + sum(stats.dropped.values()) + stats.pending


# --- forks ---------------------------------------------------------------------------------------------------------

pre_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

SCRAPABLE = f"""{OBSERVED}# ---
        from sidestream_exporters import PrometheusExporter
        exporter = PrometheusExporter(port=0)
        sidecar = Sidecar(exporter)
        record(sidecar, "parent")
        sidecar.flush()
"""


@pre_fork
def test_a_forked_child_counts_anew_and_leaves_the_parents_endpoint_alone(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        f"""{SCRAPABLE}# ---
        import signal, time, urllib.request
        url = exporter.url
        def runs(page):
            return [line for line in page.splitlines() if line.startswith("sidestream_runs_total")]
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            assert exporter.url is None
            record(sidecar, "child-1")
            record(sidecar, "child-2")
            sidecar.flush(20)
            assert exporter.url != url, exporter.url
            page = urllib.request.urlopen(exporter.url).read().decode()
            assert runs(page)[0].endswith(" 2.0"), page
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        page = urllib.request.urlopen(url, timeout=20).read().decode()
        assert runs(page)[0].endswith(" 1.0"), page
        """,
    )
    assert ended.code == 0, ended.err


@pre_fork
def test_forks_while_it_counts_and_is_scraped_hang_nobody(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        f"""{SCRAPABLE}# ---
        import signal, threading, time, urllib.request
        url, stop = exporter.url, threading.Event()
        def scrape():
            while not stop.is_set():
                urllib.request.urlopen(url, timeout=20).read()
        def work():
            while not stop.is_set():
                record(sidecar, "busy")
                time.sleep(0.001)
        threads = [threading.Thread(target=target) for target in (scrape, work)]
        for thread in threads:
            thread.start()
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                signal.alarm(60)
                record(sidecar, "child")
                assert sidecar.flush(20) == {{}}
                assert b"sidestream_runs_total" in exporter.render()[0]
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join()
        """,
    )
    assert ended.code == 0, ended.err


# --- a push gateway ------------------------------------------------------------------------------------------------


class Gateway:
    """Push gateway that accepts requests, or misbehaves."""

    def __init__(self, status: int = 200, delay: float = 0.0) -> None:
        self.pushed: list[tuple[str, str, str]] = []
        self._release = threading.Event()
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                gateway._release.wait(delay)
                gateway.pushed.append((self.command, self.path, body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self._release.set()
        self._server.shutdown()
        self._server.server_close()


def test_a_batch_job_pushes_its_numbers_at_the_end() -> None:
    with Gateway() as gateway:
        with Sidecar(PrometheusExporter(push=gateway.url, job="nightly")) as sidecar:
            record(sidecar)
        command, path, body = gateway.pushed[-1]
    assert command == "POST"
    assert path.startswith("/metrics/job/nightly/instance/")
    assert on_page(body, "sidestream_runs_total") == 1
    assert on_page(body, "sidestream_runs_in_progress") == 0


def test_a_flush_pushes_what_there_is_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    with Gateway() as gateway, Sidecar(PrometheusExporter(push=gateway.url)) as sidecar:
        record(sidecar, "r1")
        sidecar.flush(20)
        record(sidecar, "r2")
        sidecar.flush(20)
        assert [on_page(body, "sidestream_runs_total") for _, _, body in gateway.pushed] == [1, 2]
        assert gateway.pushed[0][1].startswith("/metrics/job/shop/instance/")


def test_a_gateway_that_drips_its_answer_is_left_at_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each single read succeeds long before the timeout, but the response does not end in time."""
    monkeypatch.setattr("sidestream_exporters.prometheus.exporter.PUSH_SECONDS", 0.2)
    with raw_server(b"HTTP/1.1 200 OK\r\nX-Long: ", forever=b"1") as (port, asked):
        exporter = PrometheusExporter(push=f"http://127.0.0.1:{port}")
        for _ in range(2):
            with pytest.raises(ExporterUnavailable, match="timed out"):
                exporter.flush()
    assert len(asked) <= 1  # no call starts while an abandoned one still runs


def test_programs_that_push_as_one_job_do_not_replace_each_other() -> None:
    with Gateway() as gateway:
        for _ in range(2):
            pushing = f"""
from sidestream_exporters import PrometheusExporter
exporter = PrometheusExporter(push={gateway.url!r})
exporter.start()
exporter.flush()
"""
            subprocess.run([sys.executable, "-c", pushing], check=True, timeout=60)
        assert len({path for _, path, _ in gateway.pushed}) == 2


def test_named_instance_is_the_one_that_is_pushed_as() -> None:
    with Gateway() as gateway, Sidecar(PrometheusExporter(push=gateway.url, instance="cron")) as sidecar:
        record(sidecar)
        sidecar.flush(20)
        assert gateway.pushed[0][1] == "/metrics/job/sidestream/instance/cron"


@pytest.mark.parametrize("fault", ["down", "500"])
def test_a_gateway_that_fails_is_said_once_and_counted_and_the_runs_go_on(fault: str) -> None:
    with Gateway(status=500) as gateway, said() as words:
        url = gateway.url if fault == "500" else f"http://127.0.0.1:{free_port()}"
        sidecar = Sidecar(PrometheusExporter(push=url))
        for number in range(3):
            record(sidecar, f"r{number}")
            assert sidecar.flush(20) == {}
        stats = sidecar.stats().exporters["prometheus"]
        assert (stats.failures, stats.exported, stats.dropped) == (3, 6, {})
        sidecar.close()
    assert words.getvalue().count("metrics cannot be pushed") == 1


def test_a_key_in_the_path_of_a_gateway_is_not_told() -> None:
    with said() as words:
        exporter = PrometheusExporter(push=f"http://127.0.0.1:{free_port()}/s3cret")
        with pytest.raises(ExporterUnavailable, match=r"http://127\.0\.0\.1:\d+/…: ") as raised:
            exporter.flush()
        exporter.close()
    assert "metrics cannot be pushed" in words.getvalue()
    assert "s3cret" not in words.getvalue() + str(raised.value)


def test_a_gateway_that_hangs_holds_a_close_no_longer_than_its_deadline() -> None:
    with Gateway(delay=60) as gateway, said():
        sidecar = Sidecar(PrometheusExporter(push=gateway.url))
        record(sidecar)
        begun = time.monotonic()
        sidecar.close(timeout=0.5)
        assert time.monotonic() - begun < 20  # less than the gateway's 60 s


# --- slices and the GIL --------------------------------------------------------------------------------------------


def test_counting_gives_the_interpreter_back_in_the_middle_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr("sidestream.metrics.store.time.sleep", naps.append)
    events = [event for number in range(500) for event in run_of(started(), ended(), run_id=f"r{number}")]
    exporter = PrometheusExporter(port=None)
    exporter.export(events)
    counted = len(naps)
    assert counted > 3
    exporter.render()
    assert len(naps) > counted


def test_on_an_event_loop_it_does_not_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application may render its own registry on the event loop."""
    exporter = PrometheusExporter(port=None)
    exporter.export([event for number in range(200) for event in run_of(started(), ended(), agent=f"a{number}")])
    here, slept = threading.get_ident(), []

    def sleep(seconds: float) -> None:
        slept.append(threading.get_ident())

    monkeypatch.setattr("sidestream.metrics.store.time.sleep", sleep)

    async def render() -> None:
        exporter.render()

    asyncio.run(render())
    assert here not in slept


def test_every_metric_on_the_page_is_in_the_table_and_told_as_there() -> None:
    exporter = PrometheusExporter(port=None)
    with Sidecar(exporter) as sidecar:
        run_variety(sidecar)
        sidecar.flush()
        text = exporter.render()[0].decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
    assert kinds == {name: BY_NAME[name].kind for name in kinds}
    assert helps == {name: BY_NAME[name].help for name in kinds}
    assert json.dumps(sorted(kinds))
