"""Contents of the generated files: boards, panels, queries and links, with a minimal parser for PromQL selectors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidestream.metrics.definitions import METRICS, Metric

FOLDER = Path(__file__).parents[2] / "dashboards"
GENERATED = FOLDER / "generated"
RULES = GENERATED / "sidestream.rules.yaml"

Json = dict[str, Any]


def boards(folder: Path = GENERATED) -> dict[str, Json]:
    """Boards by uid."""
    read = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    return {board["uid"]: board for board in read}


PROMETHEUS, LOGS, TRACES = "prometheus", "loki", "tempo"
"""Kinds of data sources."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Query of a panel."""

    board: str
    panel: Json
    target: Json

    @property
    def expr(self) -> str:
        return str(self.target["query" if self.target["datasource"]["type"] == TRACES else "expr"])

    def __str__(self) -> str:
        return f"{self.board}: {self.panel['title']} [{self.target['refId']}]"


def panels(folder: Path = GENERATED) -> list[tuple[str, Json]]:
    """Every panel except rows, with the uid of its board."""
    return [
        (uid, panel) for uid, board in boards(folder).items() for panel in board["panels"] if panel["type"] != "row"
    ]


def queries(folder: Path = GENERATED, source: str = PROMETHEUS) -> list[Asked]:
    """Queries of data sources of one kind: PromQL, unless another is named."""
    asked = [Asked(uid, panel, target) for uid, panel in panels(folder) for target in panel["targets"]]
    return [each for each in asked if each.target["datasource"]["type"] == source]


def links(board: Json) -> Iterator[str]:
    """Every URL that the board links to."""
    yield from (link["url"] for link in board.get("links", ()) if link["type"] == "link")
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        config = panel["fieldConfig"]
        yield from (link["url"] for link in config["defaults"].get("links", ()))
        for override in config["overrides"]:
            for value in override["properties"]:
                if value["id"] == "links":
                    yield from (link["url"] for link in value["value"])


# --- PromQL ----------------------------------------------------------------------------------------------------------

SERIES: dict[str, Metric] = {series: metric for metric in METRICS for series in (metric.name, *metric.series)}
"""Metrics by the names of their time series; native histograms have the name of the metric."""


@dataclass(frozen=True)
class Selected:
    """Selector within a query."""

    name: str
    matchers: str
    window: str
    function: str
    """Function whose direct argument is the selector; empty if there is none."""
    at: int


def selectors(expr: str) -> list[Selected]:
    """Selectors of `expr`, ignoring labels in `by (…)` and in matchers."""
    bare = re.sub(r"\b(?:by|on|ignoring|group_left|group_right) \([^)]*\)", lambda m: " " * len(m[0]), expr)
    found = []
    for match in re.finditer(r"\b((?:sidestream|gen_ai)_\w+)(\{[^}]*\})?(\[[^\]]*\])?", bare):
        inside = bare.count("{", 0, match.start()) > bare.count("}", 0, match.start())
        if inside or bare[match.start() - 1 : match.start()] == ":" or bare[match.end() : match.end() + 1] == ":":
            continue
        function = re.search(r"(\w+)\($", bare[: match.start()])
        found.append(Selected(match[1], match[2] or "", match[3] or "", function[1] if function else "", match.start()))
    return found


def filled(expr: str, variables: Mapping[str, str]) -> str:
    """Replace variables in `expr` as Grafana does; longer names first."""
    for name in sorted(variables, key=len, reverse=True):
        expr = expr.replace(f"${{{name}}}", variables[name]).replace(f"${name}", variables[name])
    assert "$" not in expr, expr
    return expr
