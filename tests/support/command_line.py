"""The command line: in this process, which is quick, and in one of its own, as users have it."""

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

PATIENCE = 60
"""Seconds that a command may take on a busy machine."""
COMMAND = [sys.executable, "-c", "from sidestream.cli import main; main()"]


def invoke(*arguments: object, code: int = 0) -> Result:
    """`sidestream ARGUMENTS…`. A mistake is in `exception`; `main` makes one line on stderr and exit code 2 of it."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if isinstance(result.exception, ConfigurationError):
        assert code == 2, result.exception
    else:
        assert result.exit_code == code, (result.output, result.exception)
    return result


def mistake(*arguments: object) -> str:
    """What is told of the mistake in `sidestream ARGUMENTS…`."""
    return str(invoke(*arguments, code=2).exception)


def summaries(log: Path, *options: str) -> list[dict[str, Any]]:
    """What `sidestream runs --json` says."""
    found: list[dict[str, Any]] = json.loads(invoke("runs", log, "--json", *options).stdout)
    return found


def environment(**changes: str) -> dict[str, str]:
    """That of the tests, as far as it means nothing to a command."""
    ours = ("SIDESTREAM_", "OTEL_", "PYTEST_", "PYTHONUNBUFFERED", "FORCE_COLOR", "COLUMNS")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | changes


def on_terminal(*arguments: str, columns: int, **changes: str) -> str:
    """What `sidestream ARGUMENTS…` prints on a terminal of so many columns."""
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
    except OSError:  # Linux' way of saying that the other end is closed
        pass
    finally:
        os.close(master)
        assert process.wait(PATIENCE) == 0
    return b"".join(parts).decode()
