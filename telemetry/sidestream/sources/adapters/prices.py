"""Having the price list ready before a stream flows."""

from __future__ import annotations

from contextlib import suppress
from functools import cache


@cache
def load_price_list() -> None:
    """Have genai-prices' list ready: the first use takes as long as importing pydantic, and no stream waits for it."""
    from genai_prices import Usage, calc_price

    with suppress(LookupError):
        calc_price(Usage(input_tokens=1), "gpt-5")
