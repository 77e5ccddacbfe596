"""Dependencies in pyproject.toml: every imported distribution is declared, and every declared one is used."""

from __future__ import annotations

import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from tests.package.test_floors import ROOTS, imports, own
from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

UMBRELLAS = {
    "opentelemetry-exporter-otlp": ("opentelemetry-exporter-otlp-proto-grpc", "opentelemetry-exporter-otlp-proto-http"),
    "pydantic": ("pydantic-core",),
}
"""By distribution that is declared: those of its own requirements that are imported on its account."""

NAMESPACES = {
    "opentelemetry.exporter.otlp.proto.grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.proto": "opentelemetry-proto",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry": "opentelemetry-api",
    "google.rpc": "googleapis-common-protos",
}
"""By package that several distributions share: who brings it. The longest name decides."""

OPTIONAL = {"pytest"}
"""Imported by a plug-in of the library itself, which loads it."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    """`pydantic-ai-slim[openai]>=2` is `pydantic-ai-slim`; the project's own extras stand for themselves."""
    return normal(re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0])


def extras_of(requirement: str) -> list[str]:
    found = re.search(r"\[([^\]]*)\]", requirement)
    return found[1].replace(" ", "").split(",") if found else []


@cache
def declared() -> frozenset[str]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return frozenset(name_of(each) for group in groups for each in group)


@cache
def of_extras() -> frozenset[str]:
    """Distributions that come by an extra of a declared one, such as openai by `pydantic-ai-slim[openai]`."""
    found = set()
    for group in PROJECT["optional-dependencies"].values():
        for requirement in group:
            marks = [f"extra == '{extra}'" for extra in extras_of(requirement)]
            for line in requires(name_of(requirement)) or () if marks else ():
                if any(mark in line.replace('"', "'") for mark in marks):
                    found.add(name_of(line))
    return frozenset(found)


@cache
def imported() -> dict[str, set[str]]:
    """By distribution: the modules that import it."""
    providers = packages_distributions()
    found: dict[str, set[str]] = {}
    for module, targets in imports().items():
        for target in targets:
            top = target.split(".")[0]
            if own(target) or top in sys.stdlib_module_names:
                continue
            shared = [name for name in NAMESPACES if target == name or target.startswith(f"{name}.")]
            if shared:
                distributions = [NAMESPACES[max(shared, key=len)]]
            else:
                distributions = [normal(each) for each in providers.get(top, ())]
            assert distributions, f"{module} imports {target}, which no installed distribution has"
            for distribution in distributions:
                found.setdefault(distribution, set()).add(module)
    return found


def test_the_tree_is_read() -> None:
    assert {"msgspec", "structlog", "typer", "pydantic-ai-slim"} <= imported().keys()
    assert all(isinstance(root, Path) for root in ROOTS.values())


@pytest.mark.parametrize("distribution", sorted(imported()))
def test_what_is_imported_is_declared(distribution: str) -> None:
    known = declared() | of_extras() | {part for parts in UMBRELLAS.values() for part in parts} | OPTIONAL
    assert distribution in known, f"{distribution} is imported by {sorted(imported()[distribution])}, and not declared"


@pytest.mark.parametrize("distribution", sorted(declared()))
def test_what_is_declared_is_imported(distribution: str) -> None:
    users = {distribution, *UMBRELLAS.get(distribution, ())}
    assert users & imported().keys(), f"{distribution} is declared, and nothing imports it"


@pytest.mark.parametrize("umbrella", sorted(UMBRELLAS))
def test_a_declared_distribution_requires_what_is_imported_on_its_account(umbrella: str) -> None:
    needed = {name_of(line) for line in requires(umbrella) or () if "extra ==" not in line}
    assert set(UMBRELLAS[umbrella]) <= needed
