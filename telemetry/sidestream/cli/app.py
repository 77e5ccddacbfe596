"""The `sidestream` command and its short sub-commands. Longer sub-commands are in `commands/`."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from sidestream.errors import OutputError, SidestreamError

from .commands import (
    collect,
    conversations,
    dashboards,
    diff,
    doctor,
    errors,
    export,
    mcp,
    note,
    prune,
    redact,
    replay,
    run,
    runs,
    search,
    serve,
    show,
    stats,
    tail,
    top,
    validate,
)
from .options import AsJson

app = typer.Typer(
    name="sidestream",
    help="The observability sidecar for agent streams.\n\nSee it work, offline:  sidestream demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point of the `sidestream` command.

    An invalid setting or an unreadable file prints one line on stderr and exits with code 2. A failure to write the
    output exits with code 1, and prints a line unless the reader of a pipe has closed it.
    """
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        raise SystemExit(1) from None
    except OutputError as error:
        raise SystemExit(_print_error(error, 1)) from None
    except SidestreamError as error:
        raise SystemExit(_print_error(error, 2)) from None
    except OSError as error:
        if error.filename is None:  # no file was opened, so the output failed
            _drop_output()
            raise SystemExit(_print_error(f"cannot write the output: {error.strerror or error}", 1)) from None
        raise SystemExit(_print_error(f"cannot read {error.filename}: {error.strerror}", 2)) from None


def _print_error(what: object, code: int) -> int:
    """Print one line on stderr; returns the exit code."""
    if sys.stderr is not None:
        print(f"sidestream: {' '.join(str(what).split())}", file=sys.stderr)
    return code


def _drop_output() -> None:
    """Discard buffered output, so that the interpreter does not fail to write it again at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"sidestream {version('sidestream')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Annotated[
        str, typer.Option(metavar="PATH", help="Path of the log: a folder, or a file ending in .jsonl.")
    ] = "runs/",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show prompts, arguments and text as well.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Skip the simulated pauses of person and model.")] = False,
    as_json: AsJson = False,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A real model, with your own key, instead of the local server.")
    ] = None,
    exporter: Annotated[
        list[str] | None,
        typer.Option(metavar="SPEC", help="Additional exporter, such as jsonl:elsewhere/. Repeatable."),
    ] = None,
    otlp: Annotated[
        str | None, typer.Option(metavar="URL", help="OTLP endpoint for spans, such as http://127.0.0.1:4318.")
    ] = None,
    prometheus: Annotated[
        int | None, typer.Option(metavar="PORT", help="Port for Prometheus metrics. See --loop.")
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Repeat until Ctrl-C.")] = False,
    events: Annotated[
        int | None, typer.Option(metavar="N", help="Run no agent: write a log of N generated events.")
    ] = None,
) -> None:
    """Run the demo: a support agent whose runs complete, retry, fail, are cancelled and abandoned.

    The agent streams over real HTTP from a small server on this machine; nothing leaves the machine. Events are shown
    live on stderr and logged to runs/*.jsonl; the summary is printed on stdout.

    Example:  sidestream demo --verbose

    Example:  sidestream demo --model anthropic:claude-sonnet-4-5

    Example:  sidestream demo --loop --otlp http://127.0.0.1:4318 --prometheus 9464

    Example:  sidestream demo --events 1000000 --out big/
    """
    if events is not None:
        from sidestream.demo.generate import generate_for_person

        raise typer.Exit(generate_for_person(out, events))
    from sidestream.demo.main import run_demo

    exporters = list(exporter or ())
    if otlp is not None:
        exporters.append(f"otlp:{otlp}")
    if prometheus is not None:
        exporters.append(f"prometheus:{prometheus}")
    raise typer.Exit(
        run_demo(out=out, verbose=verbose, fast=fast, as_json=as_json, model=model, exporters=exporters, loop=loop)
    )


app.command(context_settings=run.CONTEXT)(run.run)
app.command()(runs.runs)
app.command()(conversations.conversations)
app.command()(show.show)
app.command()(stats.stats)
app.command()(errors.errors)
app.command()(search.search)
app.command()(diff.diff)
app.command()(validate.validate)
app.command()(serve.serve)
app.command()(mcp.mcp)
app.command()(tail.tail)
app.command()(replay.replay)
app.command()(collect.collect)
app.command()(redact.redact)
app.command()(prune.prune)
app.command()(note.note)
app.command()(top.top)
app.command()(export.export)
app.command()(doctor.doctor)
app.add_typer(dashboards.app, name="dashboards")


@app.command()
def schema(
    clickhouse: Annotated[
        bool, typer.Option("--clickhouse", help="Print the tables of a log in ClickHouse, as numbered migrations.")
    ] = False,
    database: Annotated[str, typer.Option(metavar="NAME", help="Database of the tables; it must exist.")] = "default",
    content_days: Annotated[
        int, typer.Option(metavar="DAYS", min=1, help="Days after which prompts, answers and other content expire.")
    ] = 30,
    days: Annotated[int, typer.Option(metavar="DAYS", min=1, help="Days after which rows expire.")] = 400,
    as_json: AsJson = False,
) -> None:
    """Print the JSON Schema of one line of the log, or the tables of a log in ClickHouse.

    With --clickhouse, prints SQL statements; with --json in addition, a list of migrations.

    Example:  sidestream schema > event.schema.json

    Example:  sidestream schema --clickhouse --database agents | clickhouse-client --multiquery
    """
    import json

    from sidestream.events import json_schema

    from .rendering import write, write_json, write_line

    if clickhouse:
        from sidestream.clickhouse.schema import as_sql, migrations

        steps = migrations(database, content_days=content_days, days=days)
        write_json(steps) if as_json else write(as_sql(steps, database))
    else:
        write_line(json.dumps(json_schema(), indent=2))


@app.command()
def exporters(as_json: AsJson = False) -> None:
    """List the installed exporters with their options.

    An exporter specification is name, name:TARGET, or name:TARGET?option=value&option=value.

    Example:  sidestream exporters --json
    """
    import json

    from sidestream.pipeline.registry import available_exporters

    from .rendering import write_line

    found = {name: _describe(name) for name in available_exporters()}
    if as_json:
        write_line(json.dumps(found, indent=2))
        return
    width = max(map(len, found), default=0)
    for name, about in found.items():
        if "error" in about:
            words = about["error"]
        else:
            required = [f"{option}=..." for option in about["required"]]
            options = [f"{option}={_as_in_spec(default)}" for option, default in about["options"].items()]
            words = " ".join(required + options)
        write_line(f"{name:{width}}  {words}".rstrip())


def _describe(name: str) -> dict[str, Any]:
    """Class of an exporter, and the options that a spec can set, with their defaults."""
    import inspect
    from importlib.metadata import entry_points

    from sidestream.pipeline.registry import ENTRY_POINT_GROUP

    entry = next(entry for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.name == name)
    try:
        parameters = inspect.signature(entry.load()).parameters.values()
    except Exception as error:  # code of a third party
        return {"class": entry.value, "error": f"does not import: {error}"}
    simple = (str, int, float, type(None))
    return {
        "class": entry.value,
        "target": next((p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD), None),
        "options": {
            p.name: "" if p.default == () else p.default
            for p in parameters
            if isinstance(p.default, simple) or (p.default == () and str(p.annotation).startswith("str |"))
        },
        "required": [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD],
    }


def _as_in_spec(value: str | float | None) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)
