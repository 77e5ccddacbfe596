"""Token and cost totals of a run and of its sub-agents."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sidestream.events import Usage


@dataclass(slots=True)
class Totals:
    """What was used and paid, summed."""

    tokens: dict[str, int]
    details: dict[str, int]
    usd: Decimal | None = None

    def add(self, usage: Usage | None, usd: Decimal | None) -> None:
        if usage is not None:
            for name in Usage.__struct_fields__:
                if name != "details" and (count := getattr(usage, name)) is not None:
                    self.tokens[name] = self.tokens.get(name, 0) + count
            for name, count in (usage.details or {}).items():
                self.details[name] = self.details.get(name, 0) + count
        if usd is not None:
            self.usd = usd if self.usd is None else self.usd + usd

    def usage(self) -> Usage | None:
        return Usage(**self.tokens, details=self.details or None) if self.tokens else None

    def total_tokens(self) -> int | None:
        tokens = self.tokens
        return tokens.get("input_tokens", 0) + tokens.get("output_tokens", 0) if tokens else None

    def cost_usd(self) -> float | None:
        return None if self.usd is None else float(self.usd)
