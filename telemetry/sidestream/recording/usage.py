"""Usage normalisation for agents and tapped streams.

Counts use the names of genai-prices, which are also pydantic-ai's. Absent is not zero: gateways that do not count
report zeros, which are treated as no usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from sidestream.events import Usage

_FIELDS = {name: name for name in Usage.__struct_fields__ if name.endswith("_tokens")} | {
    "output_reasoning_tokens": "reasoning_tokens"
}
_NO_COUNTS = frozenset({"details", "cost", "requests", "tool_calls", "unmeasured_requests"})
_REASONING = ("reasoning_tokens", "thoughts_tokens")


def usage_of(counts: Mapping[str, object], details: Mapping[str, object] | None = None) -> Usage | None:
    """Build the usage from `counts` and the provider's own `details`; None if both are empty or zero.

    Values that are not counts are left out (providers send flags among them), so that every line can be decoded.
    """
    known: dict[str, int] = {}
    further: dict[str, int | float] = {}
    for name, value in counts.items():
        if name in _NO_COUNTS or not (number := _number(value)):
            continue
        if field := _FIELDS.get(name):
            known[field] = int(number)
        else:
            further[name] = number
    own = {name: number for name, value in (details or {}).items() if (number := _number(value)) is not None}
    if not known and not further and not any(own.values()):
        return None
    if "reasoning_tokens" not in known and (reasoning := next((own[name] for name in _REASONING if own.get(name)), 0)):
        known["reasoning_tokens"] = int(reasoning)
    if "input_tokens" in known or "output_tokens" in known:  # the absent one was counted, as zero
        known.setdefault("input_tokens", 0)
        known.setdefault("output_tokens", 0)
    return Usage(**known, counts=further or None, details=own or None)


def raw_usage(answer: Any, *, provider: str, flavor: str = "default") -> Usage | None:
    """Extract the usage from a provider's raw answer or chunk (a mapping) with genai-prices.

    None if the provider is unknown, or the answer has no readable usage.

    Args:
        answer: Answer as JSON data.
        provider: Name of the provider in genai-prices: `openai`, `anthropic`, `google`, …
        flavor: API of the provider, if there are several: `chat`, `responses`, `embeddings`.
    """
    from genai_prices.data_snapshot import get_snapshot

    try:
        found = get_snapshot().find_provider(None, provider, None)
        _, extracted = found.extract_usage(answer, api_flavor=flavor)
    except (LookupError, ValueError, TypeError):
        return None
    return usage_of(vars(extracted))


def _number(value: object) -> int | float | None:
    """Return `value` if it is a count: finite and not negative; otherwise None."""
    if type(value) is int:  # the common case, and not a bool
        return value if value >= 0 else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not isfinite(value) or value < 0:
        return None
    return int(value) if value == int(value) else float(value)
