"""The command line: in this process, which is quick, and in one of its own, as users have it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from sidestream.cli import app as cli
from sidestream.errors import ConfigurationError

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
