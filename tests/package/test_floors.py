"""Allowed imports between packages, checked in the source files, so that the packages stay layered."""

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
    {"errors", "stats", "diagnostics", "logfiles", "clickhouse", "exit_hooks", "stdlib_compat", "import_hook"},
    {"events", "terminal"},
    {"recording"},
    {"metrics", "pipeline", "sources", "settings"},
    {"exporters", "sidecar"},
    {"install", "adapters", "logs", "streaming", "log"},
    {"web", "mcp", "testing", "autostart", "sidestream", "demo"},
    {"cli"},
]
"""From the ground up, by room: a folder of the package, or a file beside the folders. A room imports from floors below,
or from its neighbours as long as there is no circle. `exporters` is the other package, `sidestream` the public face."""

KNOWS_PYDANTIC_AI = ("sources.pydantic_ai", "testing", "demo")


@cache
def imports(*, for_types: bool = True) -> dict[str, set[str]]:
    """By module: every module it imports, with or without imports for the type checker alone."""
    found: dict[str, set[str]] = {}
    for package, root in ROOTS.items():
        for file in root.rglob("*.py"):
            parts = [package, *file.relative_to(root).with_suffix("").parts]
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            found[name] = set(_imports(ast.parse(file.read_text("utf-8")), name, is_package, for_types))
    known = set(found)
    return {name: {_resolve(target, known) for target in targets} - {name} for name, targets in found.items()}


def _imports(node: ast.AST, name: str, is_package: bool, for_types: bool) -> list[str]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not for_types:
        return [target for child in node.orelse for target in _imports(child, name, is_package, for_types)]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if not node.level:
            return [f"{node.module}.{alias.name}" for alias in node.names]
        package = name.split(".")[: len(name.split(".")) - node.level + is_package]
        base = ".".join([*package, *([node.module] if node.module else [])])
        return [f"{base}.{alias.name}" for alias in node.names]
    children = ast.iter_child_nodes(node)
    return [target for child in children for target in _imports(child, name, is_package, for_types)]


def _resolve(target: str, known: set[str]) -> str:
    """The module that `target` (a module, or a name in one) belongs to."""
    if target in known:
        return target
    parent = target.rpartition(".")[0]
    return parent if parent in known else target


def own(module: str) -> bool:
    return module.split(".")[0] in ROOTS


def room_of(module: str) -> str:
    """`sidestream.log.runs.tree` is in the room `log`, every exporter in `exporters`, the face in `sidestream`."""
    package, *rest = module.split(".")
    return "exporters" if package == "sidestream_exporters" else rest[0] if rest else package


def floor_of(room: str) -> int | None:
    return next((number for number, floor in enumerate(FLOORS) if room in floor), None)


@cache
def rooms() -> dict[str, set[str]]:
    """By room: the other rooms that it imports from."""
    found: dict[str, set[str]] = {}
    for module, targets in imports().items():
        found.setdefault(room_of(module), set()).update(map(room_of, filter(own, targets)))
    return {room: targets - {room} for room, targets in found.items()}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Nodes of `graph` left after repeated removal of nodes without dependencies: circles, and nodes above."""
    while free := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in free}
    return sorted(graph)


@pytest.mark.parametrize("room", sorted(rooms()))
def test_a_room_stands_on_a_floor_and_imports_from_no_floor_above(room: str) -> None:
    floor = floor_of(room)
    assert floor is not None, f"{room} has no floor: give it one in FLOORS"
    for target in rooms()[room]:
        below = floor_of(target)
        assert below is not None
        assert below <= floor, f"{room} (floor {floor}) imports {target} (floor {below})"


def test_there_is_no_circle_of_rooms() -> None:
    assert circle(rooms()) == []


def test_there_is_no_circle_of_files() -> None:
    assert circle({module: set(filter(own, targets)) for module, targets in imports(for_types=False).items()}) == []


def test_few_floors_and_few_files_beside_the_folders() -> None:
    assert len(FLOORS) <= 9
    assert len([*ROOTS["sidestream"].glob("*.py")]) <= 12


def test_exporters_know_the_contract_and_nothing_else_of_the_core() -> None:
    """Exporters do not import each other either: each has a folder of its own."""
    allowed = {"errors", "diagnostics", "stats", "logfiles", "clickhouse", "events", "terminal", "metrics", "pipeline"}
    for module, targets in imports().items():
        if module.startswith("sidestream_exporters."):
            for target in filter(own, targets):
                if target.startswith("sidestream_exporters"):
                    assert target.split(".")[1:2] == module.split(".")[1:2], f"{module} imports {target}"
                else:
                    helpers = (
                        "sidestream.recording.content",
                        "sidestream.recording.sampling",
                        "sidestream.recording.snapshot",
                    )
                    assert room_of(target) in allowed or target in helpers, f"{module} imports {target}"


def test_the_core_knows_no_exporter_by_name() -> None:
    """Exporters are found like those of third parties. The demo and the commands may import exporters."""
    for module, targets in imports().items():
        if module.split(".")[0] == "sidestream" and (floor_of(room_of(module)) or 0) < 6:
            assert not [target for target in targets if target.startswith("sidestream_exporters")], module


def test_only_the_source_of_its_runs_knows_pydantic_ai() -> None:
    knowing = {
        module
        for module, targets in imports().items()
        if any(target.split(".")[0] in ("pydantic_ai", "pydantic_graph") for target in targets)
    }
    assert {
        module for module in knowing if not module.removeprefix("sidestream.").startswith(KNOWS_PYDANTIC_AI)
    } == set()


@pytest.mark.parametrize(
    "module",
    [
        "sidestream",
        "sidestream.pipeline.registry",
        "sidestream.log",
        "sidestream.testing.pytest_plugin",
        "sidestream_exporters",
    ],
)
def test_importing_costs_none_of_the_heavy_libraries(module: str) -> None:
    """Heavy libraries are imported when their exporter, command, or the first agent is used."""
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
