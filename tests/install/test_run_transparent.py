"""Programs without agents under `sidestream run`: behaviour and costs are unchanged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import environment, run, sidestream, write

LOOK = """
    import json, os, signal, sys

    print(json.dumps({
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "executable": sys.executable,
        "main": [__name__, getattr(sys.modules["__main__"], "__file__", None)],
        "path": sys.path,
        "path_cache": sorted(sys.path_importer_cache),
        "environment": list(os.environ.items()),
        "modules": sorted(sys.modules),
        "flags": repr(sys.flags),
        "streams": [repr(sys.stdin), repr(sys.stdout), repr(sys.stderr), sys.stdout.errors],
        "stdin": sys.stdin.read(),
        "cwd": os.getcwd(),
        "signals": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "parent": os.getppid(),
    }))
    print("to stderr", file=sys.stderr)
"""


def look(command: list[str], cwd: Path, env: dict[str, str]) -> tuple[dict[str, Any], str]:
    done = run(command, cwd, env=env, given="some input\n")
    return json.loads(done.stdout), done.stderr


ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "plain": {},
    "PYTHONPATH": {"PYTHONPATH": os.pathsep.join(["/nowhere", "", "lib"])},
    "no locale": {"LANG": None, "LC_ALL": None, "LC_CTYPE": None},
    "settings": {"SIDESTREAM_EXPORTERS": "memory", "SIDESTREAM_TAGS": "a=b", "SIDESTREAM_SUBPROCESSES": "0"},
}


@pytest.mark.parametrize("changes", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_all_that_a_program_can_see(tmp_path: Path, changes: dict[str, str | None]) -> None:
    """Arguments, streams, environment, path, loaded modules, flags, signals and main module are unchanged."""
    write(tmp_path / "app.py", LOOK)
    command = [sys.executable, "app.py", "--exporter", "x", "--", "-v", "ü"]
    bare, observed = (look([*before, *command], tmp_path, environment(**changes)) for before in ([], sidestream("--")))
    if sys.platform == "win32":  # Windows cannot replace a process by another program
        del bare[0]["parent"], observed[0]["parent"]
    assert observed == bare


@pytest.mark.parametrize(
    ("observed", "bare"),
    [
        (["app.py", "-x"], [sys.executable, "app.py", "-x"]),
        (["-m", "package.app", "-x"], [sys.executable, "-m", "package.app", "-x"]),
        (["--", "-m", "package.app", "-x"], [sys.executable, "-m", "package.app", "-x"]),
    ],
    ids=["script", "-m", "-- -m"],
)
def test_short_forms(tmp_path: Path, observed: list[str], bare: list[str]) -> None:
    """A script and `-m` run with the Python of the command."""
    write(tmp_path / "app.py", LOOK)
    write(tmp_path / "package" / "app.py", LOOK)
    env = environment(SIDESTREAM_EXPORTERS="memory")
    assert look([*sidestream(), *observed], tmp_path, env) == look(bare, tmp_path, env)


@pytest.mark.parametrize(
    "end",
    [
        "sys.exit(7)",
        "sys.exit('a message')",
        "raise ValueError('of its own')",
        "os._exit(3)",
        "raise KeyboardInterrupt",
        "import no_such_module",
    ],
)
def test_ends(tmp_path: Path, end: str) -> None:
    """Exit codes, messages and tracebacks are unchanged."""
    write(tmp_path / "app.py", f"import os, sys\nprint('begun', flush=True)\n{end}\n")
    ends = [
        run([*before, sys.executable, "app.py"], tmp_path, code=None)
        for before in ([], sidestream("--exporter", "memory"))
    ]
    bare, observed = ((each.returncode, each.stdout, each.stderr) for each in ends)
    assert observed == bare


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signals(tmp_path: Path, name: str) -> None:
    """A signal to the started process reaches the program, which ends as without Sidestream."""
    # A thread reports when the main thread sleeps, so that the signal arrives there.
    ready = "threading.Timer(0.3, print, ['ready'], {'flush': True}).start()"
    write(tmp_path / "app.py", f"import threading, time\n{ready}\ntime.sleep(60)\n")
    ends = []
    for before in ([], sidestream("--exporter", "memory")):
        command = [*before, sys.executable, "app.py"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=pipe, stderr=pipe, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(getattr(signal, name))
            _, stderr = process.communicate(timeout=30)
            ends.append((process.returncode, stderr))
    assert ends[1] == ends[0]


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
def test_program_that_is_not_python(tmp_path: Path) -> None:
    """A broken pipe ends the program quietly, as from a shell."""
    command = ["sh", "-c", "yes | head -n 1; echo $?"]
    assert run([*sidestream("--exporter", "memory"), *command], tmp_path).stderr == run(command, tmp_path).stderr == ""


class TestSitecustomize:
    @pytest.mark.parametrize("text", ["print('customized', __name__, __file__)", "raise ValueError('broken')"])
    def test_of_the_users(self, tmp_path: Path, text: str) -> None:
        """An existing `sitecustomize` behind Sidestream's still runs or fails, and is the loaded module."""
        write(tmp_path / "lib" / "sitecustomize.py", text)
        write(tmp_path / "app.py", "import sys; print(sys.modules.get('sitecustomize'), sys.path)")
        env = environment(PYTHONPATH=str(tmp_path / "lib"), SIDESTREAM_EXPORTERS="memory")
        bare, observed = (
            run([*before, sys.executable, "app.py"], tmp_path, env=env) for before in ([], sidestream("--"))
        )
        # It also runs in the command itself, which becomes the program.
        assert observed.stdout.endswith(bare.stdout)
        assert observed.stderr.endswith(bare.stderr)
        assert "customized" in observed.stdout or "broken" in observed.stderr


class TestMistakes:
    """An invalid setting is reported in one line on standard error, and the program runs."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--exporter", "nope"], "there is no exporter 'nope'"),
            (["--exporter", "console,memory"], "give them one by one"),
            (["--exporter", "memory:?colour=red"], "unknown option 'colour'"),
            (["--tag", "prod"], "tag 'prod': write it as key=value"),
            (["--content", "some"], "content policy 'some': choose none, metadata"),
            (["--buffer-events", "0"], "buffer_events=0: must be at least 1"),
            (["--stall-seconds", "long"], "stall_seconds='long': must be a number"),
        ],
    )
    def test_settings(self, tmp_path: Path, options: list[str], message: str) -> None:
        more = [] if "--exporter" in options else ["--exporter", "memory"]
        done = run([*sidestream(*options, *more), sys.executable, "-c", "print('started')"], tmp_path)
        assert done.stdout == "started\n"
        assert done.stderr.startswith("sidestream: ")
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1

    def test_option(self, tmp_path: Path) -> None:
        """A nonexistent program is an error of the command, which does nothing."""
        done = run([*sidestream("--exportr", "memory"), sys.executable, "-c", "print('started')"], tmp_path, code=2)
        assert (done.stdout, "no such option: --exportr" in done.stderr) == ("", True)

    @pytest.mark.parametrize("name", ["OTEL_TRACES_SAMPLER=jaeger_remote", "OTEL_TRACES_SAMPLER=xray"])
    def test_values_of_the_specification(self, tmp_path: Path, name: str) -> None:
        """The environment of a fleet may contain unimplemented values."""
        variable, _, value = name.partition("=")
        env = environment(**{variable: value})
        done = run([*sidestream("--exporter", "otlp"), sys.executable, "-c", "print('started')"], tmp_path, env=env)
        assert done.stdout == "started\n"
        assert value in done.stderr

    @pytest.mark.parametrize("options", [["-I"], ["-uE"], ["-W", "error", "-Xdev", "-S"]])
    def test_isolated(self, tmp_path: Path, options: list[str]) -> None:
        """A Python with options that disable the start of Sidestream."""
        done = run([*sidestream("--"), "python3", *options, "-c", "print('started')"], tmp_path)
        assert done.stdout == "started\n"
        assert "leave out -E, -I and -S" in done.stderr

    def test_not_isolated(self, tmp_path: Path) -> None:
        """The same letters as arguments of the program."""
        options = ["-W", "error:S:Warning", "-c", "import sys; print(sys.argv)", "-I", "-S"]
        done = run([*sidestream("--exporter", "memory"), sys.executable, *options], tmp_path)
        assert done.stdout == "['-c', '-I', '-S']\n"

    def test_environment(self, tmp_path: Path) -> None:
        """The same options from the environment."""
        env = environment(SIDESTREAM_TAGS="a=b,prod", SIDESTREAM_EXPORTERS="nope", SIDESTREAM_BUFFER_EVENTS="many")
        done = run([*sidestream("--"), sys.executable, "-c", "print('started')"], tmp_path, env=env)
        assert done.stdout == "started\n"
        for mistake in ("tag 'prod'", "no exporter 'nope'", "buffer_events='many'"):
            assert mistake in done.stderr

    def test_command_not_found(self, tmp_path: Path) -> None:
        """Exit code 127, as in a shell."""
        assert "'no-such-program': not found" in run(sidestream("no-such-program"), tmp_path, code=127).stderr

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows tells programs by their name")
    def test_not_a_program(self, tmp_path: Path) -> None:
        """Exit code 126, as in a shell."""
        write(tmp_path / "notes.txt", "no program")
        assert "'./notes.txt': not a program" in run(sidestream("./notes.txt"), tmp_path, code=126).stderr
