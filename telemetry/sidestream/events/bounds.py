"""Lower bounds: the one rule of when a figure of usage or cost is less than what was really used.

A figure is a lower bound where part of what it sums is not known. Wherever such a figure is shown it is marked (`≥`).

    request            usage is a lower bound   cost is a lower bound
    cut off, `partial`         yes                      yes
    not measured               (no figure)              (no figure); the run's figures are both lower bounds
    no price known             no                       (no figure); the run's cost is a lower bound
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from .payloads import AgentEnd, LLMEnd

Figure: TypeAlias = Literal["usage", "cost"]


def unpriced_requests(end: LLMEnd) -> int:
    """Requests of `end`, failed attempts of a fallback included, that used tokens of which no price is known."""
    attempts = end.failed_attempts or ()
    return bool(end.unpriced) + sum(each.usage is not None and each.cost_usd is None for each in attempts)


def is_partial(end: LLMEnd) -> bool:
    """Whether the request was cut off before its whole usage was told."""
    return end.usage_source == "partial"


def is_unmeasured(end: LLMEnd) -> bool:
    """Whether an answer came, and nobody told what it used."""
    answered = end.outcome in ("ok", "retry") or bool(end.chunks)
    return end.usage is None and answered


def is_lower_bound(end: LLMEnd | AgentEnd, figure: Figure, *, with_children: bool = False) -> bool:
    """Whether the `usage` or `cost` of a request or a run is a lower bound.

    `with_children`: of `usage_with_children` and `cost_usd_with_children`, the figures with sub-agents.
    """
    if isinstance(end, LLMEnd):
        unpriced = unpriced_requests(end) > 0 and end.cost_usd is not None
        return is_partial(end) or (figure == "cost" and unpriced)
    return counts_are_bounds(
        figure,
        partial=end.partial_requests or 0,
        unmeasured=end.unmeasured_requests or 0,
        unpriced=end.unpriced_requests or 0,
        incomplete_sub_agents=(end.incomplete_sub_agents or 0) if with_children else 0,
    )


def counts_are_bounds(
    figure: Figure, *, partial: int = 0, unmeasured: int = 0, unpriced: int = 0, incomplete_sub_agents: int = 0
) -> bool:
    """The same rule for sums of one's own: of several runs, or of a run that goes on."""
    return bool(partial or unmeasured or incomplete_sub_agents or (figure == "cost" and unpriced))
