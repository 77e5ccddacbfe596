"""Token and cost totals of a run, with or without its sub-agents."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from sidestream.events import Usage

_TOKENS = tuple(name for name in Usage.__struct_fields__ if name.endswith("_tokens"))


@dataclass(slots=True)
class Totals:
    """Sums of usage and cost."""

    tokens: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int | float] = field(default_factory=dict)
    details: dict[str, int | float] = field(default_factory=dict)
    usd: Decimal | None = None

    def add(self, usage: Usage | None, usd: Decimal | None) -> None:
        if usage is not None:
            for name in _TOKENS:
                if (count := getattr(usage, name)) is not None:
                    self.tokens[name] = self.tokens.get(name, 0) + count
            for sums, those in ((self.counts, usage.counts), (self.details, usage.details)):
                for name, number in (those or {}).items():
                    sums[name] = sums.get(name, 0) + number
        if usd is not None:
            self.usd = usd if self.usd is None else self.usd + usd

    def usage(self) -> Usage | None:
        if not self.tokens and not self.counts:
            return None
        return Usage(**self.tokens, counts=self.counts or None, details=self.details or None)

    def total_tokens(self) -> int | None:
        tokens = self.tokens
        return tokens.get("input_tokens", 0) + tokens.get("output_tokens", 0) if tokens else None

    def cost_usd(self) -> float | None:
        return None if self.usd is None else float(self.usd)
