"""Multi-process servers: each worker serves the metrics of all, including killed workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.support.loopback import free_port
from tests.support.metric_samples import on_page
from tests.support.prometheus_server import DEADLINE, wait_for
from tests.support.subprograms import OBSERVED, run_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers that share a port, and signals")

APP = """
    import json, os
    from prometheus_client import Counter
    from sidestream import Sidecar
    from sidestream_exporters import PrometheusExporter

    orders = Counter("app_orders", "The application's own.")
    exporter = PrometheusExporter(port=int(os.environ["METRICS_PORT"]))
    sidecar = Sidecar(exporter)

    def begin(agent):
        run = sidecar.open_run(f"{os.getpid()}-{sidecar.stats().runs}", agent, None)
        run.start(model="m")
        return run
"""

ASGI = """
    from pydantic_ai import Agent
    from pydantic_ai.models.test import TestModel
    agent = sidecar.observe(Agent(TestModel(custom_output_text="hi"), name="worker"))
    metrics = exporter.asgi_app()

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        if scope["path"] == "/metrics":
            return await metrics(scope, receive, send)
        if scope["path"] == "/run":
            await agent.run("go")
            orders.inc()
        elif scope["path"] == "/begin":
            begin("long")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(os.getpid()).encode()})
"""

WSGI = """
    metrics = exporter.wsgi_app()

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        if path == "/run":
            run = begin("worker")
            run.end("completed")
            sidecar.close_run(run)
            orders.inc()
        elif path == "/begin":
            begin("long")
        start_response("200 OK", [])
        return [json.dumps(os.getpid()).encode()]
"""


@dataclass
class Server:
    """Server with several workers."""

    process: subprocess.Popen[bytes]
    url: str
    metrics: str

    def get(self, path: str) -> str:
        """Response of the application."""
        until = time.monotonic() + DEADLINE
        while True:
            try:
                return _get(f"{self.url}{path}")
            except urllib.error.HTTPError:
                raise
            except (urllib.error.URLError, ConnectionError, HTTPException):  # not started yet, or just killed
                if time.monotonic() > until or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def runs(self, number: int) -> Counter[int]:
        """Make runs concurrently; returns their number by process id."""
        with ThreadPoolExecutor(8) as pool:
            return Counter(json.loads(answer) for answer in pool.map(self.get, ["/run"] * number))

    def until(self, value: float, name: str, **labels: str) -> None:
        """Wait until both endpoints return the value."""
        for url in (self.metrics, f"{self.url}/metrics"):
            seen: list[Any] = [None]

            def holds(url: str = url, seen: list[Any] = seen) -> bool:
                try:
                    seen[0] = on_page(_get(url), name, **labels)
                except (OSError, HTTPException) as error:  # the worker was killed during the request
                    seen[0] = error
                return bool(seen[0] == value)

            try:
                wait_for(holds, f"{name} {labels} of {value}")
            except pytest.fail.Exception:
                pytest.fail(f"{url}: {name} {labels} is {seen[0]} and not {value}")


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        return str(answer.read().decode())


@contextmanager
def serving(folder: Path, command: list[str], source: str) -> Iterator[Server]:
    """Run the application in `source` with `command`, in which PORT is replaced by the port."""
    (folder / "served.py").write_text("".join(map(textwrap.dedent, (APP, source))))
    (folder / "metrics").mkdir()
    port, metrics_port = free_port(), free_port()
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *(part.replace("PORT", str(port)) for part in command)],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={
                **os.environ,
                "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
                "METRICS_PORT": str(metrics_port),
            },
            start_new_session=True,
        )
    server = Server(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics_port}/metrics")
    try:
        yield server
    except BaseException:
        print(log.read_text())
        raise
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


SERVERS = {
    "uvicorn": (["uvicorn", "--port", "PORT", "--workers", "2", "--log-level", "warning", "served:app"], ASGI),
    "gunicorn": (["gunicorn", "-b", "127.0.0.1:PORT", "-w", "2", "--log-level", "warning", "served:app"], WSGI),
    "gunicorn that preloads": (
        ["gunicorn", "-b", "127.0.0.1:PORT", "-w", "2", "--preload", "--log-level", "warning", "served:app"],
        WSGI,
    ),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_any_worker_tells_the_numbers_of_all_and_of_those_that_were_killed(tmp_path: Path, kind: str) -> None:
    with serving(tmp_path, *SERVERS[kind]) as server:
        pids = server.runs(1)
        until = time.monotonic() + DEADLINE
        while len(pids) < 2 and time.monotonic() < until:
            pids += server.runs(8)
        assert len(pids) > 1
        made = sum(pids.values())
        server.until(made, "sidestream_runs_total", agent="worker", outcome="completed")
        server.until(made, "gen_ai_invoke_agent_duration_seconds_count", gen_ai_agent_name="worker")
        server.until(made, "gen_ai_invoke_agent_duration_seconds_bucket", gen_ai_agent_name="worker", le="+Inf")
        server.until(made, "app_orders_total")

        victim = json.loads(server.get("/begin"))
        server.until(1, "sidestream_runs_in_progress", agent="long")
        os.kill(victim, signal.SIGKILL)
        server.until(made, "sidestream_runs_total", agent="worker")
        server.until(0, "sidestream_runs_in_progress", agent="worker")
        wait_for(lambda: on_page(server.get("/metrics"), "sidestream_runs_in_progress", agent="long") is None, "gone")
        server.runs(5)
        server.until(made + 5, "sidestream_runs_total", agent="worker")
        server.until(made + 5, "sidestream_run_requests_count", agent="worker")


def test_two_sidecars_one_after_the_other_and_an_earlier_process_of_the_same_id_add_up(tmp_path: Path) -> None:
    source = f"""{OBSERVED}# ---
        from sidestream_exporters import PrometheusExporter
        for number in range(2):
            exporter = PrometheusExporter(port=None)
            with Sidecar(exporter) as sidecar:
                record(sidecar, f"r{{number}}")
                sidecar.flush()
                page = exporter.render()[0].decode()
        runs = [line for line in page.splitlines() if line.startswith("sidestream_runs_total") and "completed" in line]
        print(runs[0].split()[1])
        from prometheus_client import values
        print(values.ValueClass._multiprocess)
    """
    folder = tmp_path / "metrics"
    ended = run_program(tmp_path, source, PROMETHEUS_MULTIPROC_DIR=str(folder))
    assert ended.out.split() == ["2.0", "True"], ended.err
    for file in folder.glob("*.db"):  # simulates a later process with the same id
        file.rename(file.with_name(f"{file.stem.rpartition('_')[0]}_4194305.db"))
    again = run_program(tmp_path, source, PROMETHEUS_MULTIPROC_DIR=str(folder))
    assert again.out.split() == ["4.0", "True"], again.err


def test_folder_that_cannot_be_written_is_said_once_and_costs_no_run(tmp_path: Path) -> None:
    source = f"""{OBSERVED}# ---
        import shutil, time
        from sidestream_exporters import PrometheusExporter
        exporter = PrometheusExporter(port=None)
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        with Sidecar(exporter) as sidecar:
            for number in range(3):
                record(sidecar, f"r{{number}}")
                time.sleep(0.6)
        print("runs went on")
    """
    ended = run_program(tmp_path, source, PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "metrics"))
    assert ended.out.split("\n")[0] == "runs went on", ended.err
    assert ended.err.count("metrics cannot be shared between processes") == 1, ended.err


def test_a_variable_that_was_set_too_late_is_an_error_that_says_so(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        """
        import os, prometheus_client
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = "metrics"
        from sidestream import ConfigurationError
        from sidestream_exporters import PrometheusExporter
        try:
            PrometheusExporter()
        except ConfigurationError as error:
            print(error)
        """,
    )
    assert "set it before the program starts" in ended.out, ended.err


def test_a_folder_that_cannot_be_made_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run_program(
        tmp_path / "program",
        """
        from sidestream import ConfigurationError
        from sidestream_exporters import PrometheusExporter
        try:
            PrometheusExporter()
        except ConfigurationError as error:
            print(error)
        """,
        PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "file"),
    )
    assert "cannot be made" in ended.out, ended.err


def test_forks_while_files_are_written_leave_no_lock_behind_that_the_application_counts_by(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    ended = run_program(
        tmp_path,
        f"""{OBSERVED}# ---
        import signal, threading, time
        from prometheus_client import Counter
        from sidestream_exporters import PrometheusExporter
        from sidestream_exporters.prometheus import worker_files
        worker_files.EVERY = 0.001
        orders = Counter("app_orders", "The application's own.")
        exporter = PrometheusExporter(port=None)
        sidecar = Sidecar(exporter)
        stop = threading.Event()
        def work():
            while not stop.is_set():
                record(sidecar, "busy")
                time.sleep(0.001)
        worker = threading.Thread(target=work)
        worker.start()
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                signal.alarm(60)
                orders.inc()
                record(sidecar, "child")
                assert sidecar.flush(20) == {{}}
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        worker.join()
        page = exporter.render()[0].decode()
        assert "app_orders_total 20.0" in page, page
        """,
        PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "metrics"),
    )
    assert ended.code == 0, ended.err


def test_a_counter_never_falls_however_many_ask_at_once(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    ended = run_program(
        tmp_path,
        f"""{OBSERVED}# ---
        import threading, time
        from sidestream_exporters import PrometheusExporter
        from sidestream_exporters.prometheus import worker_files
        worker_files.EVERY = 0.001
        exporter = PrometheusExporter(port=None)
        sidecar = Sidecar(exporter)
        falls, stop = [], threading.Event()
        def ask():
            last = 0.0
            while not stop.is_set():
                for line in exporter.render()[0].decode().splitlines():
                    if line.startswith("sidestream_runs_total{{") and "completed" in line:
                        now = float(line.split()[1])
                        if now < last:
                            falls.append((last, now))
                        last = now
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(300):
            record(sidecar, f"r{{number}}")
            time.sleep(0.001)
        assert sidecar.flush(20) == {{}}
        stop.set()
        for thread in threads:
            thread.join()
        assert not falls, falls
        """,
        PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "metrics"),
    )
    assert ended.code == 0, ended.err


def test_a_file_of_a_process_killed_while_it_created_the_file_is_passed_over(tmp_path: Path) -> None:
    """The file is empty; prometheus_client's collector alone fails on it in every scrape."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "counter_4194305.db").touch()
    source = f"""{OBSERVED}# ---
        from sidestream_exporters import PrometheusExporter
        exporter = PrometheusExporter(port=None)
        with Sidecar(exporter) as sidecar:
            record(sidecar, "r")
            sidecar.flush()
            page = exporter.render()[0].decode()
        lines = [line for line in page.splitlines() if line.startswith("sidestream_runs_total") and "completed" in line]
        print(lines[0].split()[1])
    """
    ended = run_program(tmp_path, source, PROMETHEUS_MULTIPROC_DIR=str(folder))
    assert ended.out.split() == ["1.0"], ended.err
