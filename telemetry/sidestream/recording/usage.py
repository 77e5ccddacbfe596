"""Usage: the one reader of what a request used, for agents and tapped streams alike.

Counts have genai-prices' names, which are pydantic-ai's too. Absent is not zero: a gateway that does not count answers
with zeros, and those are no usage.
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
    """The usage in `counts` and the provider's own `details`; None where neither has any.

    Values that are no numbers (providers send flags among them) are left out, so that every line can be read again.
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
    if "input_tokens" in known or "output_tokens" in known:  # of the two, the other was counted as well, and is zero
        known.setdefault("input_tokens", 0)
        known.setdefault("output_tokens", 0)
    return Usage(**known, counts=further or None, details=own or None)


def raw_usage(answer: Any, *, provider: str, flavor: str = "default") -> Usage | None:
    """The usage in a provider's raw answer or chunk (a mapping), as genai-prices reads it.

    None where the provider is not known, or the answer has no usage that can be read.

    Args:
        answer: The answer as JSON data.
        provider: genai-prices' name of the provider: `openai`, `anthropic`, `google`, …
        flavor: The provider's API, where it has several: `chat`, `responses`, `embeddings`.
    """
    from genai_prices.data_snapshot import get_snapshot

    try:
        found = get_snapshot().find_provider(None, provider, None)
        _, extracted = found.extract_usage(answer, api_flavor=flavor)
    except (LookupError, ValueError, TypeError):
        return None
    return usage_of(vars(extracted))


def _number(value: object) -> int | float | None:
    """`value`, where it is a count: a finite number that is not negative."""
    if type(value) is int:  # the usual case, and no bool
        return value if value >= 0 else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not isfinite(value) or value < 0:
        return None
    return int(value) if value == int(value) else float(value)
