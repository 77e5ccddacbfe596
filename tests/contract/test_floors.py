"""Who may import whom: from the tree of files, so that the house stands as it was drawn."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import sidestream
import sidestream_exporters

ROOTS = {
    "sidestream": Path(sidestream.__file__).parent,
    "sidestream_exporters": Path(sidestream_exporters.__file__).parent,
}

FLOORS: list[set[str]] = [
    {
        "sidestream.checks",
        "sidestream.errors",
        "sidestream.diagnostics",
        "sidestream.pace",
        "sidestream.rows",
        "sidestream.stats",
        "sidestream.text",
    },
    {"sidestream.events", "sidestream.factories", "sidestream.ids", "sidestream.pricing"},
    {
        "sidestream.content",
        "sidestream.exporter",
        "sidestream.logs",
        "sidestream.measure",
        "sidestream.metrics",
        "sidestream.request",
        "sidestream.run",
        "sidestream.sampling",
        "sidestream.series",
        "sidestream.tracing",
    },
    {"sidestream.channel", "sidestream.hub", "sidestream_exporters.*"},
    {
        "sidestream.translate",
        "sidestream.watched",
        "sidestream.stream",
        "sidestream.leaving",
        "sidestream.attaching",
        "sidestream.capability",
    },
    {"sidestream.adapters", "sidestream.teller", "sidestream.tap"},
    {"sidestream.sidecar"},
    {"sidestream.install", "sidestream.feed", "sidestream.streams"},
    {"sidestream.log.*"},
    {"sidestream.review.*"},
    {"sidestream", "sidestream.pytest_plugin", "sidestream.demo.*", "sidestream.autostart.*"},
    {"sidestream.commands.*"},
    {"sidestream.cli"},
]
"""From the ground up. A file imports from floors below, or from its neighbours as long as there is no circle."""

KNOWS_PYDANTIC_AI = {
    "sidestream.attaching",
    "sidestream.feed",
    "sidestream.capability",
    "sidestream.stream",
    "sidestream.translate",
    "sidestream.leaving",
}


@cache
def imports() -> dict[str, set[str]]:
    """By module: every module it imports when it is used. Imports for the type checker alone do not count."""
    found: dict[str, set[str]] = {}
    for package, root in ROOTS.items():
        for file in root.rglob("*.py"):
            parts = [package, *file.relative_to(root).with_suffix("").parts]
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            found[name] = set(_imports(ast.parse(file.read_text("utf-8")), name, is_package))
    known = set(found)
    return {name: {_resolve(target, known) for target in targets} - {name} for name, targets in found.items()}


def _imports(node: ast.AST, name: str, is_package: bool) -> list[str]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return [target for child in node.orelse for target in _imports(child, name, is_package)]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if not node.level:
            return [f"{node.module}.{alias.name}" for alias in node.names]
        package = name.split(".")[: len(name.split(".")) - node.level + is_package]
        base = ".".join([*package, *([node.module] if node.module else [])])
        return [f"{base}.{alias.name}" for alias in node.names]
    return [target for child in ast.iter_child_nodes(node) for target in _imports(child, name, is_package)]


def _resolve(target: str, known: set[str]) -> str:
    """The module that `target` (a module, or a name in one) belongs to."""
    if target in known:
        return target
    parent = target.rpartition(".")[0]
    return parent if parent in known else target


def floor_of(module: str) -> int | None:
    for number, floor in enumerate(FLOORS):
        if module in floor or any(room.endswith(".*") and f"{module}.".startswith(room[:-1]) for room in floor):
            return number
    return None


def own(module: str) -> bool:
    return module.split(".")[0] in ROOTS


@pytest.mark.parametrize("module", sorted(imports()))
def test_a_file_stands_on_a_floor_and_imports_from_no_floor_above(module: str) -> None:
    floor = floor_of(module)
    assert floor is not None, f"{module} has no floor: give it one in FLOORS"
    for target in filter(own, imports()[module]):
        above = floor_of(target)
        assert above is not None
        assert above <= floor, f"{module} (floor {floor}) imports {target} (floor {above})"


def test_there_is_no_circle() -> None:
    graph = {module: set(filter(own, targets)) for module, targets in imports().items()}
    while free := {module for module, targets in graph.items() if not targets & graph.keys()}:
        graph = {module: targets for module, targets in graph.items() if module not in free}
    assert not graph, f"circle among {sorted(graph)}"


def test_exporters_know_the_contract_and_nothing_else_of_the_core() -> None:
    """Nor each other: a helper of one (`_console_pretty`) is its own."""
    allowed = {
        "sidestream.checks",
        "sidestream.errors",
        "sidestream.diagnostics",
        "sidestream.events",
        "sidestream.content",
        "sidestream.exporter",
        "sidestream.ids",
        "sidestream.measure",
        "sidestream.metrics",
        "sidestream.pace",
        "sidestream.rows",
        "sidestream.sampling",
        "sidestream.series",
        "sidestream.stats",
        "sidestream.text",
    }
    for module, targets in imports().items():
        if module.startswith("sidestream_exporters."):
            assert {target for target in targets if target.split(".")[0] == "sidestream"} <= allowed, module
            others = {target for target in targets if target.startswith("sidestream_exporters.")}
            assert all(other.rpartition(".")[2].startswith("_") for other in others), f"{module} imports {others}"


def test_the_core_knows_no_exporter_by_name() -> None:
    """It finds them as it would find a third party's. The demo and the command line are users of it."""
    for module, targets in imports().items():
        if module.split(".")[0] == "sidestream" and (floor_of(module) or 0) < 6:
            assert not [target for target in targets if target.startswith("sidestream_exporters")], module


def test_only_the_observer_knows_pydantic_ai() -> None:
    knowing = {
        module
        for module, targets in imports().items()
        if any(target.split(".")[0] in ("pydantic_ai", "pydantic_graph") for target in targets)
    }
    assert {module for module in knowing if not module.startswith("sidestream.demo.")} <= KNOWS_PYDANTIC_AI


@pytest.mark.parametrize(
    "module",
    ["sidestream", "sidestream.exporter", "sidestream.log", "sidestream.pytest_plugin", "sidestream_exporters"],
)
def test_importing_costs_none_of_the_heavy_libraries(module: str) -> None:
    """They are imported when their exporter, command, or the first agent is used."""
    heavy = [
        "pydantic_ai",
        "structlog",
        "opentelemetry.sdk",
        "grpc",
        "typer",
        "rich",
        "prometheus_client",
        "genai_prices",
    ]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
