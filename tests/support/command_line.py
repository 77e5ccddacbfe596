"""Command line: in this process, which is fast, and in a process of its own, as users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from sidestream.cli import app as cli
from sidestream.errors import ConfigurationError

PATIENCE = 100
"""Maximum seconds for a command on a busy machine."""
COMMAND = [sys.executable, "-c", "from sidestream.cli import main; main()"]


def invoke(*arguments: object, code: int = 0) -> Result:
    """Invoke `sidestream ARGUMENTS…`. The result's `exception` holds a mistake, for which `main` exits with code 2."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if isinstance(result.exception, ConfigurationError):
        assert code == 2, result.exception
    else:
        assert result.exit_code == code, (result.output, result.exception)
    return result


def mistake(*arguments: object) -> str:
    """Error message for the mistake in `sidestream ARGUMENTS…`."""
    return str(invoke(*arguments, code=2).exception)


def summaries(log: Path, *options: str) -> list[dict[str, Any]]:
    """Output of `sidestream runs --json`."""
    found: list[dict[str, Any]] = json.loads(invoke("runs", log, "--json", *options).stdout)
    return found


def environment(**changes: str) -> dict[str, str]:
    """Environment of the tests without variables that affect a command."""
    ours = ("SIDESTREAM_", "OTEL_", "PYTEST_", "PYTHONUNBUFFERED", "FORCE_COLOR", "COLUMNS")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | changes


def on_terminal(*arguments: str, columns: int, **changes: str) -> str:
    """Output of `sidestream ARGUMENTS…` on a terminal with `columns` columns."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(TERM="xterm-256color", PYTHONUTF8="1", **changes),
    )
    os.close(slave)
    parts = []
    try:
        while part := os.read(master, 65536):
            parts.append(part)
    except OSError:  # Linux reports a closed terminal this way
        pass
    finally:
        os.close(master)
        assert process.wait(PATIENCE) == 0
    return b"".join(parts).decode()
