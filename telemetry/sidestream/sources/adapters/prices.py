"""Preloading of the price list before a stream starts."""

from __future__ import annotations

from contextlib import suppress
from functools import cache


@cache
def load_price_list() -> None:
    """Load the price list of genai-prices. The first use takes as long as importing pydantic; no stream should wait."""
    from genai_prices import Usage, calc_price

    with suppress(LookupError):
        calc_price(Usage(input_tokens=1), "gpt-5")
