"""Facts of a finished model response: identity, usage and cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from sidestream.events import Attempt, Json, Usage, UsageSource

from .pricing import Cost


class ResponseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of one response, as plain values."""

    usage: Usage | None = None
    usage_source: UsageSource = "none"
    cost: Cost | None = None
    unpriced: bool = False
    """Whether tokens were used, and no price is known."""
    attempts: list[Attempt] = []
    """Failed attempts of a fallback model."""
    response_model: str | None = None
    response_id: str | None = None
    provider: str | None = None
    finish_reason: str | None = None
    raw_finish_reason: str | None = None
    service_tier: str | None = None
    served_by: str | None = None
    server_address: str | None = None
    server_port: int | None = None
    provider_details: dict[str, Json] | None = None


NOTHING_KNOWN = ResponseFacts()

AnyFacts: TypeAlias = ResponseFacts | Callable[[], ResponseFacts]
"""Facts, or a function that computes them off the caller's path from immutable values. The function never raises."""


def known(facts: AnyFacts) -> ResponseFacts:
    """Return the facts, computing them if necessary."""
    return facts if isinstance(facts, ResponseFacts) else facts()
