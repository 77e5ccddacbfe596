"""Span attributes for token usage, request settings and lower bounds."""

from __future__ import annotations

from collections.abc import Mapping

from sidestream.events import AgentEnd, Json, LLMEnd, Usage
from sidestream.events.bounds import is_lower_bound

from .runs import Attributes
from .semantic_conventions import SemanticConventions


def usage_of(names: SemanticConventions, usage: Usage | None) -> Attributes:
    """Token counts and further counts; None for counts that the provider did not report."""
    if usage is None:
        return {}
    attributes: Attributes = {called: getattr(usage, name) for name, called in names.usage.items()}
    for name, count in (usage.counts or {}).items():
        attributes[names.counts.get(name, f"sidestream.usage.{name}")] = count
    return attributes


def run_usage_of(names: SemanticConventions, end: AgentEnd, which: str) -> Attributes:
    """Token counts for the span of a run: `own` requests, `total` with sub-agents, or `none`."""
    if which == "none":
        return {}
    with_children = end.usage_with_children if which == "total" else None
    if with_children is None:
        return usage_of(names, end.usage)
    bound = is_lower_bound(end, "usage", with_children=True)
    return {**usage_of(names, with_children), "sidestream.usage.lower_bound": True if bound else None}


def settings_of(names: SemanticConventions, settings: Mapping[str, Json] | None) -> Attributes:
    """Settings of a request, under the conventions' names or `sidestream.request.*`."""
    return {names.settings.get(name, f"sidestream.request.{name}"): value for name, value in (settings or {}).items()}


def bounds_of(data: LLMEnd | AgentEnd) -> Attributes:
    """Flags for usage and cost that are lower bounds; no flag for an exact or absent value."""
    marks: Attributes = {
        "sidestream.usage.lower_bound": data.usage is not None and is_lower_bound(data, "usage"),
        "sidestream.cost.lower_bound": data.cost_usd is not None and is_lower_bound(data, "cost"),
    }
    if isinstance(data, AgentEnd) and data.cost_usd_with_children is not None:
        marks["sidestream.cost.lower_bound_with_children"] = is_lower_bound(data, "cost", with_children=True)
    return {name: True for name, marked in marks.items() if marked}
