"""Lower bounds: the rule for when a figure of usage or cost is less than the true amount.

A figure is a lower bound if a part of the sum is unknown. Consoles and pages mark such figures with `≥`.

    request            usage is a lower bound   cost is a lower bound
    cut off, `partial`         yes                      yes
    not measured               (no figure)              (no figure); both figures of the run are lower bounds
    no price known             no                       (no figure); the cost of the run is a lower bound
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from .payloads import AgentEnd, LLMEnd

Figure: TypeAlias = Literal["usage", "cost"]


def unpriced_requests(end: LLMEnd) -> int:
    """Number of model calls in `end` with token usage but no known price, failed fallback attempts included."""
    attempts = end.failed_attempts or ()
    return bool(end.unpriced) + sum(each.usage is not None and each.cost_usd is None for each in attempts)


def is_partial(end: LLMEnd) -> bool:
    """Whether the request was cut off before the provider reported the whole usage."""
    return end.usage_source == "partial"


def is_unmeasured(end: LLMEnd) -> bool:
    """Whether the model answered, but the provider reported no usage."""
    answered = end.outcome in ("ok", "retry") or bool(end.chunks)
    return end.usage is None and answered


def is_lower_bound(end: LLMEnd | AgentEnd, figure: Figure, *, with_children: bool = False) -> bool:
    """Whether the `usage` or `cost` of a request or a run is a lower bound.

    With `with_children`, of the figures that include sub-agents: `usage_with_children` and `cost_usd_with_children`.
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
    """Lower-bound rule for other sums: of several runs, or of a run in progress."""
    return bool(partial or unmeasured or incomplete_sub_agents or (figure == "cost" and unpriced))
