"""`sidestream run`: another program, as it is, with its agents observed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, NoReturn

import typer

from sidestream.errors import ConfigurationError

CONTEXT = {"allow_interspersed_args": False, "ignore_unknown_options": True}
"""What follows the first word that is no option of ours is the program's, `-m` with it."""


def run(
    command: Annotated[list[str], typer.Argument(metavar="[--] COMMAND...", help="The program and its arguments.")],
    exporter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC", help="Where events go, such as jsonl:runs/. Repeatable. Default: $SIDESTREAM_EXPORTERS."
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Written with every run. Repeatable. Default: $SIDESTREAM_TAGS."),
    ] = None,
    content: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            envvar="SIDESTREAM_CONTENT",
            help="full, truncated(N), metadata or none, for each exporter whose SPEC does not say.",
        ),
    ] = None,
    buffer_events: Annotated[
        int | None,
        typer.Option(metavar="N", envvar="SIDESTREAM_BUFFER_EVENTS", help="Events that may wait for an exporter."),
    ] = None,
    buffer_bytes: Annotated[
        int | None, typer.Option(metavar="N", envvar="SIDESTREAM_BUFFER_BYTES", help="The same in bytes of content.")
    ] = None,
    close_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", envvar="SIDESTREAM_CLOSE_TIMEOUT", help="How long the end may take to deliver the rest."
        ),
    ] = None,
    stall_seconds: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", envvar="SIDESTREAM_STALL_SECONDS", help="A wait that counts as a stall."),
    ] = None,
    subprocesses: Annotated[
        bool,
        typer.Option(
            "--subprocesses",
            envvar="SIDESTREAM_SUBPROCESSES",
            help="Observe the Python programs that it starts, too. Its forked and multiprocessing workers are anyway.",
        ),
    ] = False,
) -> None:
    """Run a program with every pydantic-ai agent in it observed; not a line of it changes.

    Its arguments, input, output, exit code and signals are its own. An option beats the environment, which beats the
    default. A script that ends in .py, and -m, run with this Python.

    Example:  sidestream run -- python app.py

    Example:  sidestream run --exporter jsonl:runs/ --tag env=prod uvicorn app:app --workers 2
    """
    if command[0].startswith("-") and command[0] != "-m":
        raise ConfigurationError(f"run: no such option: {command[0]}; a program's own options come after its name")
    from sidestream.autostart import Settings, put_into
    from sidestream.sidecar import exporters_from_environment

    _refuse_isolated(command)
    settings = Settings(
        exporters=exporter or exporters_from_environment(),
        tags=_tags(tag or [each for each in os.environ.get("SIDESTREAM_TAGS", "").split(",") if each.strip()]),
        content=content,
        buffer_events=buffer_events,
        buffer_bytes=buffer_bytes,
        close_timeout=close_timeout,
        stall_seconds=stall_seconds,
    )
    settings.sidecar().close()  # a mistake in the settings comes to light here, and not within the program
    environment = _environment()
    put_into(environment, settings, subprocesses=subprocesses)
    _become(command, environment)


def _refuse_isolated(command: Sequence[str]) -> None:
    """Python's options -E, -I and -S make it pass over what starts Sidestream: refused, for nobody would notice."""
    words = iter(command[1:] if os.path.basename(command[0]).startswith("python") else ())
    for word in words:
        option = re.fullmatch("-([^-cmWX]*)([cmWX]?)(.*)", word, re.DOTALL)
        if option is None:
            return
        flags, takes_value, value = option.groups()
        if set(flags) & set("EIS"):
            raise ConfigurationError(f"run: {command[0]} {word} cannot be observed: leave out -E, -I and -S")
        if not flags + takes_value or takes_value in ("c", "m"):
            return
        if takes_value and not value:
            next(words, None)


def _tags(texts: Sequence[str]) -> dict[str, str]:
    tags = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigurationError(f"tag {text!r}: write it as key=value")
        tags[key.strip()] = value.strip()
    return tags


def _environment() -> dict[str, str]:
    """The environment as this process was given it."""
    environment = dict(os.environ)
    # Without a locale, Python sets LC_CTYPE for itself (PEP 538). A Python that finds it set is not in UTF-8 mode.
    coerced = sys.flags.utf8_mode and environment.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8")
    if coerced and "PYTHONUTF8" not in environment and sys.version_info < (3, 15):
        del environment["LC_CTYPE"]
    return environment


def _become(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Run `command` in place of this process, or on Windows, which cannot, hand on its exit code."""
    name, *arguments = command
    if name == "-m" or (name.endswith((".py", ".pyw")) and os.path.isfile(name)):
        name, arguments = sys.executable, [*command]
    here = os.path.dirname(sys.executable)  # the environment's own programs, where it is not activated
    program = shutil.which(name) or shutil.which(name, path=here)
    if program is None:
        exists = os.path.exists(name)
        print(f"sidestream: cannot run {name!r}: {'not a program' if exists else 'not found'}", file=sys.stderr)
        raise typer.Exit(126 if exists else 127)
    # A Python finds out where it is from the name by which it was called.
    called = name if shutil.which(name) else program
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform == "win32":
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the program as well, which decides
        raise typer.Exit(subprocess.call([program, *arguments], env=environment))
    for ignored in ("SIGPIPE", "SIGXFZ", "SIGXFSZ"):  # by Python; what replaces it would inherit that
        if hasattr(signal, ignored):
            signal.signal(getattr(signal, ignored), signal.SIG_DFL)
    try:
        os.execve(program, [called, *arguments], environment)
    except OSError as error:
        print(f"sidestream: cannot run {name!r}: {error.strerror}", file=sys.stderr)
        raise typer.Exit(126) from None
