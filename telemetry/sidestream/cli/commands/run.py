"""`sidestream run`: runs an unchanged program with its agents observed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec
import typer

from sidestream.errors import ConfigurationError

if TYPE_CHECKING:
    from sidestream.autostart import Settings

CONTEXT = {"allow_interspersed_args": False, "ignore_unknown_options": True}
"""The first word that is not an option of `run`, including `-m`, begins the program's command line."""


def run(
    command: Annotated[list[str], typer.Argument(metavar="[--] COMMAND...", help="The program and its arguments.")],
    exporter: Annotated[
        list[str] | None,
        typer.Option(metavar="SPEC", help="Exporter, such as jsonl:runs/. Repeatable. Default: $SIDESTREAM_EXPORTERS."),
    ] = None,
    collect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="Exporter run by a separate process that follows the log: otlp:URL. Repeatable.",
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Tag of every run. Repeatable. Default: $SIDESTREAM_TAGS."),
    ] = None,
    content: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            envvar="SIDESTREAM_CONTENT",
            help="Content policy of exporters whose SPEC sets none: full, truncated(N), metadata or none.",
        ),
    ] = None,
    sdk: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            envvar="SIDESTREAM_SDK",
            help="SDKs to observe besides pydantic-ai, such as openai,anthropic; or none."
            " Default: all that the program imports.",
        ),
    ] = None,
    buffer_events: Annotated[
        str | None,
        typer.Option(metavar="N", envvar="SIDESTREAM_BUFFER_EVENTS", help="Maximum events waiting for an exporter."),
    ] = None,
    buffer_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="N", envvar="SIDESTREAM_BUFFER_BYTES", help="Maximum bytes of content waiting for an exporter."
        ),
    ] = None,
    close_timeout: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS", envvar="SIDESTREAM_CLOSE_TIMEOUT", help="Maximum time for delivering the rest on exit."
        ),
    ] = None,
    stall_seconds: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS", envvar="SIDESTREAM_STALL_SECONDS", help="Shortest wait that counts as a stall."
        ),
    ] = None,
    subprocesses: Annotated[
        bool,
        typer.Option(
            "--subprocesses",
            envvar="SIDESTREAM_SUBPROCESSES",
            help="Also observe Python programs that it starts; its forked and multiprocessing workers always are.",
        ),
    ] = False,
    rerun: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Repeat this logged run, with answers from the log instead of models. As for `show`."
        ),
    ] = None,
    rerun_log: Annotated[
        str, typer.Option(metavar="PATH", help="Log of the run to repeat: a folder, a file or a glob.")
    ] = "runs/",
    logged_tools: Annotated[
        bool, typer.Option("--logged-tools", help="With --rerun: take results of tools from the log as well.")
    ] = False,
    loose: Annotated[
        bool, typer.Option("--loose", help="With --rerun: also answer requests that differ from the logged ones.")
    ] = False,
) -> None:
    """Run a program and observe every agent and every model call in it, without changing its code.

    Arguments, input, output, exit code and signals are the program's own. Options take precedence over environment
    variables. Scripts that end in .py, and -m, run with this Python. An invalid setting is reported and ignored.

    Example:  sidestream run -- python app.py

    Example:  sidestream run --exporter jsonl:runs/ --tag env=prod uvicorn app:app --workers 2

    Example:  sidestream run --sdk openai,anthropic -- python chat.py

    Example:  sidestream run --collect otlp:http://127.0.0.1:4318 --collect prometheus:9464 -- python app.py

    Example:  sidestream run --rerun b855 --logged-tools -- python app.py
    """
    if command[0].startswith("-") and command[0] != "-m":
        raise ConfigurationError(f"run: no such option: {command[0]}; a program's own options come after its name")
    from sidestream.autostart import put_into
    from sidestream.settings import exporters_from_environment

    settings = _settings(
        exporters=_with_collector(exporter or exporters_from_environment(), collect or []),
        tags=tag or [each for each in os.environ.get("SIDESTREAM_TAGS", "").split(",") if each.strip()],
        content=content,
        sdk=sdk,
        numbers={
            "buffer_events": buffer_events,
            "buffer_bytes": buffer_bytes,
            "close_timeout": close_timeout,
            "stall_seconds": stall_seconds,
        },
    )
    environment = _environment()
    if rerun is not None:
        settings = _with_rerun(settings, environment, rerun, rerun_log, strict=not loose, logged_tools=logged_tools)
    elif logged_tools or loose:
        raise ConfigurationError("run: --logged-tools and --loose need --rerun RUN")
    if settings is not None and not _is_isolated(command):
        put_into(environment, settings, subprocesses=subprocesses)
    _execute(command, environment)


def _with_rerun(
    settings: Settings | None, environment: dict[str, str], run: str, log: str, *, strict: bool, logged_tools: bool
) -> Settings:
    """`settings` with the logged run to repeat; adds placeholder API keys of providers to `environment`."""
    from sidestream.autostart import Settings
    from sidestream.autostart.rerun import KEYS, NO_KEY, Rerun
    from sidestream.log import runs
    from sidestream.log.runs.naming import named_run

    found = named_run(run, runs(log))
    for name in KEYS.values():
        environment.setdefault(name, NO_KEY)
    again = Rerun(
        paths=[os.path.abspath(log)], run=found.run_id, strict=strict, tools="logged" if logged_tools else "run"
    )
    return msgspec.structs.replace(settings or Settings(exporters=[]), rerun=again)


def _settings(
    exporters: Sequence[str],
    tags: Sequence[str],
    content: str | None,
    sdk: str | None,
    numbers: Mapping[str, str | None],
) -> Settings | None:
    """Settings without invalid values, which are reported on stderr; None if the program has to run unobserved."""
    from sidestream.autostart import Settings
    from sidestream.recording.content import ContentPolicy

    given: dict[str, Any] = {"exporters": [], "tags": {}}
    for text in tags:
        key, equals, value = text.partition("=")
        if equals and key.strip():
            given["tags"][key.strip()] = value.strip()
        else:
            _warn(f"tag {text!r}: write it as key=value; left out")
    for name, number in numbers.items():
        try:
            given[name] = number if number is None else float(number)
        except ValueError:
            _warn(f"{name}={number!r}: must be a number; the default is used")
    if content is not None:
        try:
            ContentPolicy.parse(content)
            given["content"] = content
        except ConfigurationError as error:
            given["content"] = "none"
            _warn(f"{error}; none is used")  # the default may show more than intended
    if sdk is not None:
        from sidestream.sources.sdk.registry import known_sdks

        given["sdk"] = known_sdks(sdk, lambda name, known: _warn(f"sdk {name!r}: unknown; choose from {known}"))
    given |= {name: int(given[name]) for name in ("buffer_events", "buffer_bytes") if given.get(name) is not None}
    settings = Settings(**given)
    for spec in exporters:
        try:
            settings.exporter(spec)
            settings.exporters.append(spec)
        except ConfigurationError as error:
            _warn(f"{error}; left out")
    if not settings.exporters:
        return None
    try:
        settings.check()
    except ConfigurationError as error:
        _warn(f"not observing: {error}")
        return None
    return settings


def _with_collector(exporters: list[str], collected: Sequence[str]) -> list[str]:
    """`exporters` with a log and a collector that follows it, if any are `collected`."""
    if not collected:
        return exporters
    from urllib.parse import quote

    has_log = any(spec.partition(":")[0] == "jsonl" for spec in exporters)
    collector = f"collect:?exporters={quote(';'.join([*collected, '']), safe=':/')}"
    return [*exporters, *([] if has_log else ["jsonl:runs/"]), collector]


def _warn(message: str) -> None:
    print(f"sidestream: {' '.join(message.split())}", file=sys.stderr)


def _is_isolated(command: Sequence[str]) -> bool:
    """Whether -E, -I or -S keeps Python from starting Sidestream; reported on stderr if so."""
    words = iter(command[1:] if os.path.basename(command[0]).startswith("python") else ())
    for word in words:
        option = re.fullmatch("-([^-cmWX]*)([cmWX]?)(.*)", word, re.DOTALL)
        if option is None:
            return False
        flags, takes_value, value = option.groups()
        if set(flags) & set("EIS"):
            _warn(f"not observing: {command[0]} {word} bypasses Sidestream; leave out -E, -I and -S")
            return True
        if not flags + takes_value or takes_value in ("c", "m"):
            return False
        if takes_value and not value:
            next(words, None)
    return False


def _environment() -> dict[str, str]:
    """Environment as this process received it."""
    environment = dict(os.environ)
    # Without a locale, Python sets LC_CTYPE itself (PEP 538). A child that inherits it would not use UTF-8 mode.
    coerced = sys.flags.utf8_mode and environment.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8")
    if coerced and "PYTHONUTF8" not in environment and sys.version_info < (3, 15):
        del environment["LC_CTYPE"]
    return environment


def _execute(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by `command`; on Windows, which cannot, run it and pass on its exit code."""
    name, *arguments = command
    if name == "-m" or (name.endswith((".py", ".pyw")) and os.path.isfile(name)):
        name, arguments = sys.executable, [*command]
    here = os.path.dirname(sys.executable)  # programs of this virtual environment, if it is not activated
    program = shutil.which(name) or shutil.which(name, path=here)
    if program is None:
        exists = os.path.exists(name)
        print(f"sidestream: cannot run {name!r}: {'not a program' if exists else 'not found'}", file=sys.stderr)
        raise typer.Exit(126 if exists else 127)
    # Python locates its installation by the name it was called with.
    called = name if shutil.which(name) else program
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform == "win32":
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program receives Ctrl-C too, and decides
        raise typer.Exit(subprocess.call([program, *arguments], env=environment))
    for ignored in ("SIGPIPE", "SIGXFZ", "SIGXFSZ"):  # ignored by Python; the program would inherit the ignored signals
        if hasattr(signal, ignored):
            signal.signal(getattr(signal, ignored), signal.SIG_DFL)
    try:
        os.execve(program, [called, *arguments], environment)
    except OSError as error:
        print(f"sidestream: cannot run {name!r}: {error.strerror}", file=sys.stderr)
        raise typer.Exit(126) from None
