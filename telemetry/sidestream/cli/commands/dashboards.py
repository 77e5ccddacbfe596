"""`sidestream dashboards export`: Grafana boards and Prometheus rules for an existing Grafana."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sidestream.cli.options import AsJson
from sidestream.cli.rendering import write_line
from sidestream.errors import ConfigurationError

app = typer.Typer(
    help="Grafana boards and Prometheus rules for Sidestream's metrics.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

CHOSEN = "${datasource}"
"""Uid of the data source in the shipped boards: a variable that the viewer selects."""


@app.callback()
def _group() -> None:
    pass  # a callback keeps the name `export`: typer drops the name of an only command


@app.command()
def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the files; created if missing.")] = Path(
        "dashboards/"
    ),
    datasource: Annotated[
        str | None,
        typer.Option(
            metavar="UID",
            help="Uid of the Prometheus data source. Default: a variable on each board.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the boards (JSON) and the rules (YAML).

    Import the boards in Grafana, or provision the folder; list the rules under rule_files in prometheus.yml.

    Example:  sidestream dashboards export --out grafana/

    Example:  sidestream dashboards export --out grafana/ --datasource P1809F7CD0C75ACF3
    """
    written = [str(path) for path in write_boards(out, datasource=datasource)]
    write_line(json.dumps(written, indent=2) if as_json else "\n".join(written))


def write_boards(out: Path, *, datasource: str | None = None) -> list[Path]:
    """Write every board and the rules to the folder `out`; returns their paths.

    Raises:
        ConfigurationError: the files cannot be written.
    """
    if datasource is not None and not datasource.strip():
        raise ConfigurationError(
            "dashboards export: --datasource is empty: give the uid of a data source, or leave it out"
        )
    written = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for source in sorted(_generated().iterdir()):
            text = source.read_text("utf-8")
            if datasource is not None and source.suffix == ".json":
                text = _bound(text, datasource.strip())
            target = out / source.name
            target.write_text(text, "utf-8")
            written.append(target)
    except OSError as error:
        raise ConfigurationError(f"dashboards export: cannot write to {out}: {error.strerror or error}") from error
    return written


def _bound(text: str, uid: str) -> str:
    """Board bound to the data source `uid`, without the variable for selecting one."""
    board = json.loads(text.replace("${datasource:queryparam}&", ""), object_hook=lambda each: _asking(each, uid))
    variables = board["templating"]["list"]
    board["templating"]["list"] = [variable for variable in variables if variable["name"] != "datasource"]
    return json.dumps(board, indent=1, ensure_ascii=False) + "\n"


def _asking(each: dict[str, Any], uid: str) -> dict[str, Any]:
    return {**each, "uid": uid} if each.get("uid") == CHOSEN else each


def _generated() -> Path:
    """Folder of the generated files: in the installed package, or in the source tree of an editable install."""
    packaged = Path(__file__).parents[2] / "_dashboards"
    return packaged if packaged.is_dir() else Path(__file__).parents[4] / "dashboards" / "generated"
