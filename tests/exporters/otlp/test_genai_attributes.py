"""Page of GenAI attributes, compared with the installed registry and the exported names."""

from __future__ import annotations

import re
from dataclasses import fields

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as registry

from sidestream.metrics.definitions import METRICS
from sidestream_exporters.otlp.semantic_conventions import GEN_AI
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/genai-attributes.md").read_text("utf-8")


def listed(heading: str) -> set[str]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `(gen_ai\.[\w.]+)` \|", section, re.MULTILINE))


def known() -> set[str]:
    """Attribute names of the installed registry."""
    values = {value for name, value in vars(registry).items() if name.isupper() and isinstance(value, str)}
    return {value for value in values if value.startswith("gen_ai.")}


def used() -> set[str]:
    """Attribute names of the conventions in exported spans and metrics."""
    names = [getattr(GEN_AI, each.name) for each in fields(GEN_AI)]
    flat = {text for name in names for text in (name.values() if isinstance(name, dict) else [name])}
    labels = {label for metric in METRICS for label in metric.labels}
    return {name for name in known() if name in flat or name.replace(".", "_") in labels}


def test_every_attribute_of_the_registry_is_on_the_page_once() -> None:
    assert listed("Set") | listed("Not set") == known()
    assert listed("Set") & listed("Not set") == set()


def test_the_page_says_of_each_what_is_done() -> None:
    assert listed("Set") == used()
