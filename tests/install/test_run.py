"""`sidestream run` with agents: observed programs, location of the log, and failures of the observation."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from sidestream.autostart import Settings, put_into
from tests.support.loopback import free_port
from tests.support.missing import is_missing
from tests.support.programs import AGENT, ended, ended_by_process, environment, events, run, sidestream, write

SPAWN = """
    import multiprocessing, sys

    def work():
        import greeter
        greeter.agent.run_sync("?")

    if __name__ == "__main__":
        for method in sys.argv[1:]:
            process = multiprocessing.get_context(method).Process(target=work)
            process.start()
            process.join()
"""


def test_script(tmp_path: Path) -> None:
    """Agents are logged with the settings of the options, which override the environment."""
    write(tmp_path / "app.py", AGENT + "    print(agent.run_sync('my question').output, sys.argv)\n")
    options = ["--exporter", "jsonl:logs/", "--tag", "env=prod", "--tag", "team=a b", "--content", "none"]
    done = run([*sidestream(*options), "app.py", "-x"], tmp_path, env=environment(SIDESTREAM_EXPORTERS="nope"))
    assert (done.stdout, done.stderr) == ("hello ['app.py', '-x']\n", "")
    start, *_, end = events(tmp_path / "logs")
    assert start["data"]["tags"] == {"env": "prod", "team": "a b"}
    assert end["data"]["outcome"] == "completed"
    assert "my question" not in "".join(file.read_text() for file in (tmp_path / "logs").iterdir())


def test_module_and_fork(tmp_path: Path) -> None:
    """`-m`; a worker forked after its first run writes a log of its own."""
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    program = """
    agent.run_sync("?")
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        agent.run_sync("?")
    """
    write(tmp_path / "package" / "app.py", AGENT + program)
    env = environment(SIDESTREAM_EXPORTERS="jsonl:logs/", SIDESTREAM_TAGS="from=environment")
    run([*sidestream(), "-m", "package.app"], tmp_path, env=env)
    assert sorted(ended_by_process(tmp_path / "logs").values()) == [1, 1]
    assert events(tmp_path / "logs")[0]["data"]["tags"] == {"from": "environment"}


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_multiprocessing(tmp_path: Path, method: str) -> None:
    """A worker of any `multiprocessing` start method belongs to the program, and its log is complete at its end."""
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    write(tmp_path / "greeter.py", AGENT)
    write(tmp_path / "app.py", SPAWN)
    run([*sidestream("--exporter", "jsonl:logs/"), "app.py", method], tmp_path)
    assert ended(tmp_path / "logs") == ["greeter"]


def test_no_banner_says_that_observability_is_off(tmp_path: Path) -> None:
    """pydantic-ai's banner about missing observability; shown as usual in an unobserved program."""
    write(tmp_path / "app.py", AGENT + "    agent.run_sync('?')\n")
    env = environment(PYDANTIC_AI_NO_BANNER=None, CI=None, PYTEST_VERSION=None, AI_AGENT="1")
    bare = run([sys.executable, "app.py"], tmp_path, env=env)
    observed = run([*sidestream("--exporter", "memory"), "app.py"], tmp_path, env=env)
    assert ("observability: off" in bare.stderr, observed.stderr) == (True, "")


class TestOnce:
    """A program that observes itself is observed once, with its own settings."""

    @pytest.mark.parametrize(
        "program",
        [
            "sidecar.observe(agent).run_sync('?')",
            "Agent(TestModel(), name='greeter', capabilities=[sidecar.capability]).run_sync('?')",
        ],
    )
    def test_sidecar(self, tmp_path: Path, program: str) -> None:
        write(
            tmp_path / "app.py",
            f"{AGENT}    from sidestream import Sidecar\n    sidecar = Sidecar('jsonl:own/')\n    {program}\n",
        )
        run([*sidestream("--exporter", "jsonl:logs/"), "app.py"], tmp_path)
        assert (ended(tmp_path / "own"), ended(tmp_path / "logs")) == (["greeter"], [])

    def test_stream(self, tmp_path: Path) -> None:
        """A run of the streaming functions, exported by the program's own sidecar."""
        more = """
    import asyncio
    from sidestream import Sidecar, collect_stream_result
    asyncio.run(collect_stream_result(agent, "?", sidecar=Sidecar("jsonl:own/")))
        """
        write(tmp_path / "app.py", AGENT + more)
        run([*sidestream("--exporter", "jsonl:logs/"), "app.py"], tmp_path)
        assert (ended(tmp_path / "own"), ended(tmp_path / "logs")) == (["greeter"], [])

    def test_other_agents(self, tmp_path: Path) -> None:
        """Agents outside of the program's own sidecar are observed as usual."""
        more = """
    from sidestream import Sidecar
    Sidecar('jsonl:own/').observe(Agent(TestModel(), name="mine")).run_sync('?')
    agent.run_sync('?')
        """
        write(tmp_path / "app.py", AGENT + more)
        run([*sidestream("--exporter", "jsonl:logs/"), "app.py"], tmp_path)
        assert (ended(tmp_path / "own"), ended(tmp_path / "logs")) == (["mine"], ["greeter"])

    def test_install(self, tmp_path: Path) -> None:
        write(
            tmp_path / "app.py",
            AGENT + "    import sidestream\n    sidestream.install('jsonl:own/')\n    agent.run_sync('?')\n",
        )
        run([*sidestream("--exporter", "jsonl:logs/"), "app.py"], tmp_path)
        assert (ended(tmp_path / "own"), ended(tmp_path / "logs")) == (["greeter"], [])


class TestSubprocesses:
    def test_only_when_asked(self, tmp_path: Path) -> None:
        """A Python subprocess is not observed, and gets the original environment."""
        write(tmp_path / "pydantic_ai.py", "")
        write(
            tmp_path / "child.py",
            "import os, sys, pydantic_ai; print('sidestream' in sys.modules, sorted(os.environ.items()), sys.path)",
        )
        write(tmp_path / "app.py", "import subprocess, sys; subprocess.run([sys.executable, 'child.py'])")
        bare = run([sys.executable, "app.py"], tmp_path).stdout
        assert run([*sidestream("--exporter", "memory"), "app.py"], tmp_path).stdout == bare
        asked = run([*sidestream("--exporter", "memory", "--subprocesses"), "app.py"], tmp_path).stdout
        assert (bare[:5], asked[:5]) == ("False", "True ")

    def test_asked(self, tmp_path: Path) -> None:
        """With `--subprocesses`, a subprocess writes a log of its own, also behind a shell."""
        write(tmp_path / "child.py", AGENT + "    agent.run_sync('?')\n")
        write(tmp_path / "app.py", "import os, sys; sys.exit(os.system(f'{sys.executable} child.py'))")
        run([*sidestream("--exporter", "jsonl:logs/", "--subprocesses"), "app.py"], tmp_path)
        assert ended(tmp_path / "logs") == ["greeter"]


class TestFailures:
    """One line on stderr, and the program continues unobserved."""

    def observed(self, tmp_path: Path, settings: str | None = None) -> subprocess.CompletedProcess[str]:
        write(tmp_path / "pydantic_ai.py", "")
        write(tmp_path / "app.py", "import pydantic_ai; print('goes on')")
        env = environment(PYTHONPATH=str(tmp_path))
        put_into(env, Settings(exporters=["memory"]), subprocesses=False)
        return run([sys.executable, "app.py"], tmp_path, env=env | ({"SIDESTREAM_RUN": settings} if settings else {}))

    def test_none(self, tmp_path: Path) -> None:
        """No message without a failure."""
        done = self.observed(tmp_path)
        assert (done.stdout, done.stderr) == ("goes on\n", "")

    def test_not_installed(self, tmp_path: Path) -> None:
        """A Python of another environment, without Sidestream or with a broken one."""
        write(tmp_path / "sidestream.py", "raise ImportError('broken')")
        done = self.observed(tmp_path)
        assert (done.stdout, done.stderr) == (
            "goes on\n",
            f"sidestream: not observing: ImportError: broken ({sys.executable})\n",
        )

    @pytest.mark.parametrize("settings", ["{", "{}", '{"exporters": ["nope"]}', '{"exporters": ["memory:x"]}'])
    def test_settings(self, tmp_path: Path, settings: str) -> None:
        """Settings that are valid for the command, but not in the program."""
        done = self.observed(tmp_path, settings)
        assert done.stdout == "goes on\n"
        assert done.stderr.startswith("sidestream: not observing: ")
        assert len(done.stderr.splitlines()) == 1


WEB = """
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        result = await agent.run("?")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


@pytest.mark.scenario_23
@pytest.mark.skipif(sys.platform == "win32", reason="ends the server with a signal")
@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_web_server(tmp_path: Path, server: str) -> None:
    """Each of two workers writes a log of its own requests."""
    for module in {server, "uvicorn"}:
        if importlib.util.find_spec(module) is None:
            is_missing(f"{module} is not installed")
    write(tmp_path / "web.py", AGENT + WEB)
    port = free_port()
    if server == "uvicorn":
        command = ["uvicorn", "web:app", "--workers", "2", "--port", str(port)]
    else:
        command = ["gunicorn", "-w", "2", "-k", "uvicorn.workers.UvicornWorker", "-b", f"127.0.0.1:{port}", "web:app"]
    logs = tmp_path / "logs"
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(
            [*sidestream("--exporter", "jsonl:logs/"), *command],
            cwd=tmp_path,
            env=environment(),
            stdout=out,
            stderr=out,
        )
    try:
        answers: Counter[int] = Counter()
        deadline = time.monotonic() + 60
        while len(answers) < 2 and time.monotonic() < deadline and process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as response:
                    answers[int(response.read())] += 1
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        while ended_by_process(logs) != answers and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(answers) == 2, (tmp_path / "out").read_text()
        assert ended_by_process(logs) == answers
    finally:
        process.terminate()
        assert process.wait(30) in (0, -15)
