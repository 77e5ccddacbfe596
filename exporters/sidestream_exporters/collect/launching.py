"""Start of the collector as a detached process: it shares no stream, signal or session with the program.

program ── starts ──▶ a Python that forks and exits at once ──▶ the collector, adopted by init

A program that waits for all its children therefore never waits for the collector. Windows needs no fork.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from sidestream.errors import ConfigurationError
from sidestream.logfiles.collector_status import SETTINGS_VARIABLE, CollectorSettings
from sidestream.logfiles.companion import Companion
from sidestream.logfiles.opening import open_regular

MODULE = "sidestream.log.forwarding.collector_process"
MAX_OUTPUT = 1_000_000
"""Bytes of collectors' stderr output, beyond which the output file is truncated."""

_NOT_INHERITED = ("PROMETHEUS_MULTIPROC_DIR", "SIDESTREAM_RUN", "SIDESTREAM_SUBPROCESSES", "TRACEPARENT", "TRACESTATE")
"""Environment variables that describe the program itself, or one process of several."""


def python_program() -> str:
    """Path of this process's Python interpreter.

    Raises:
        ConfigurationError: Python is embedded in another program, and no interpreter stands beside it.
    """
    home = os.path.dirname(os.path.abspath(sys.executable)) if sys.executable else os.path.join(sys.prefix, "bin")
    names = (os.path.basename(sys.executable or ""), "python3", "python", "python.exe")
    for name in names:
        for folder in (home, os.path.join(sys.prefix, "bin"), sys.prefix):
            program = os.path.join(folder, name)
            if name.lower().startswith(("python", "pypy")) and os.access(program, os.X_OK) and os.path.isfile(program):
                return program
    raise ConfigurationError(
        f"collect: no Python beside {sys.executable or sys.prefix} to run a collector with: "
        f"start 'sidestream collect' as a service of its own"
    )


def launch(python: str, companion: Companion, settings: Mapping[str, Any], lock: int) -> subprocess.Popen[bytes]:
    """Start a collector for the log of `companion`; on POSIX it inherits the descriptor `lock`. Raises `OSError`."""
    inherits = os.name == "posix"
    given = CollectorSettings(log=companion.log, lock=lock if inherits else None, **settings)
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    environment[SETTINGS_VARIABLE] = msgspec.json.encode(given).decode()
    environment["PYTHONPATH"] = os.pathsep.join(_import_path(environment.get("PYTHONPATH", "")))
    output = _open_output(companion.output_path)
    try:
        return subprocess.Popen(
            [python, "-P", "-m", MODULE, companion.log],  # the path is for `ps`; the collector reads its settings
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            env=environment,
            pass_fds=(lock,) if inherits else (),
            start_new_session=True,
            creationflags=0 if inherits else 0x208,  # CREATE_NEW_PROCESS_GROUP | DETACHED_PROCESS
        )
    finally:
        os.close(output)


def _import_path(inherited: str) -> list[str]:
    """Entries for the collector's PYTHONPATH: the inherited ones, and the packages' folders outside site-packages."""
    core = os.path.dirname(os.path.dirname(inspect.getfile(Companion)))
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    here = [os.path.dirname(os.path.abspath(package)) for package in (core, own)]
    under_run = os.path.join(os.path.abspath(core), "autostart", "path")
    paths = [path for path in inherited.split(os.pathsep) if path and os.path.abspath(path) != under_run]
    return list(dict.fromkeys(paths + [path for path in here if os.path.basename(path) != "site-packages"]))


def _open_output(path: str) -> int:
    fd = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, own=True)
    if os.fstat(fd).st_size > MAX_OUTPUT:
        os.ftruncate(fd, 0)
    return fd
