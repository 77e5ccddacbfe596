"""`sidestream export`: a log as a table, a run as an HTML page, or runs as evaluation cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Paths, Unread, choosing_runs, no_runs
from sidestream.errors import ConfigurationError

if TYPE_CHECKING:
    from sidestream.log import Filter

FORMATS = (".parquet", ".csv", ".html")
CASES = (".yaml", ".yml", ".json")


@choosing_runs
def export(
    where: Filter,
    out: Annotated[str, typer.Option(metavar="FILE", help="New file, ending in .parquet, .csv or .html.")],
    paths: Paths = None,
    table: Annotated[str, typer.Option(metavar="WHAT", help="Rows of the table: runs or events.")] = "runs",
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="For .html: the run, as for `sidestream show`. Default: the last."),
    ] = None,
    cases: Annotated[
        bool, typer.Option("--cases", help="Write runs as cases for pydantic-evals, to .yaml or .json.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a log as Parquet or CSV, a run as HTML, or runs as cases to evaluate.

    A table has one row for each run or event; an unknown value is an empty cell, not 0. Parquet needs DuckDB:
    pip install 'sidestream[parquet]'. The HTML file is self-contained and holds all prompts and answers: see
    `sidestream redact` before you send it.

    Example:  sidestream export --since 7d --out runs.csv

    Example:  sidestream export 'logs/*.jsonl.gz' --table events --out events.parquet

    Example:  sidestream export --run b855 --out run.html

    Example:  sidestream export --cases --agent support --outcome completed --out cases.yaml
    """
    from sidestream.cli.rendering import busy, write, write_json
    from sidestream.terminal.numbers import counted

    target = Path(out).expanduser()
    if cases and target.suffix not in CASES:
        raise ConfigurationError(f"export: --out {out}: the name must end in {' or '.join(CASES)} for --cases")
    if not cases and target.suffix not in FORMATS:
        raise ConfigurationError(
            f"export: --out {out}: the name must end in {', '.join(FORMATS)}, which selects the format"
        )
    if table not in ("runs", "events"):
        raise ConfigurationError(f"export: --table {table}: choose runs or events")
    if target.exists():
        raise ConfigurationError(f"export: --out {out}: exists already; choose another name")
    if run is not None and target.suffix != ".html" and not cases:
        raise ConfigurationError("export: --run is for .html; the other options choose the runs of a table")
    unread = Unread()
    log = paths or [DEFAULT_LOG]
    if cases:
        with busy(log):
            count, what = _cases(log, where, run, target, unread), "case"
    elif target.suffix == ".html":
        with busy(log):
            count, what = _page(log, where, run, target, unread), "run"
    else:
        from sidestream.cli.tables import EVENT_COLUMNS, RUN_COLUMNS, event_rows, run_rows, write_csv, write_parquet

        columns = RUN_COLUMNS if table == "runs" else EVENT_COLUMNS
        rows = (run_rows if table == "runs" else event_rows)(log, where, unread)
        write_table = write_csv if target.suffix == ".csv" else write_parquet
        with busy(log):
            count, what = write_table(rows, columns, target), table[:-1]
    if as_json:
        write_json({"file": str(target), "rows": count})
    else:
        write(f"{counted(count, what)} in {target}\n")
    unread.report()


def _cases(log: Sequence[str], where: Filter, run: str | None, target: Path, unread: Unread) -> int:
    """Write runs as the cases of a data set; returns their number."""
    from sidestream.cli.tables import new_file
    from sidestream.log import cases, runs
    from sidestream.log.runs.naming import named_run

    known = runs(log, where, on_problem=unread)
    chosen = [named_run(run, known)] if run is not None else [each for each in known if each.parent_run_id is None]
    if not chosen:
        raise no_runs(where)
    found = cases(log, chosen)
    # JSON is valid YAML.
    with new_file(target) as part:
        part.write_bytes(msgspec.json.format(msgspec.json.encode({"name": target.stem, "cases": found}), indent=2))
    return len(found)


def _page(log: Sequence[str], where: Filter, run: str | None, target: Path, unread: Unread) -> int:
    """Write the HTML page of one run; returns 1, the number of runs."""
    from sidestream.cli.tables import new_file
    from sidestream.log import load_run, runs
    from sidestream.log.runs.naming import named_run

    try:
        from sidestream.web.standalone import standalone_page
    except ImportError as error:
        raise ConfigurationError(f"export: a page needs {error.name}: pip install 'sidestream[review]'") from None
    known = runs(log, where, on_problem=unread)
    unread.report()
    if run is not None:
        found = named_run(run, known)
    elif known:
        found = ([each for each in known if each.parent_run_id is None] or known)[-1]
    else:
        raise no_runs(where)
    page = standalone_page(load_run(log, found.run_id)).encode("utf-8", "backslashreplace")
    with new_file(target) as part:
        part.write_bytes(page)
    return 1
