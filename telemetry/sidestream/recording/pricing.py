"""Cost of requests in US dollars, with the source of each amount.

Order of precedence: the provider's report; the user's price for the model; the estimate of genai-prices' offline list,
which pydantic-ai has already computed. The cost of an unknown model or of unmeasured tokens is absent, never zero.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sidestream.errors import ConfigurationError
from sidestream.events import CostSource, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice


@dataclass(frozen=True, slots=True)
class Cost:
    """Amount in US dollars and its source."""

    usd: Decimal
    source: CostSource
    version: str | None = None
    """Version of the price list; None for other sources than `genai-prices`."""


def price_list_version() -> str:
    """Version of the price list in use: that of the package, or the time of an automatic update."""
    import genai_prices
    from genai_prices.data_snapshot import get_snapshot

    prices = get_snapshot()
    if prices.from_auto_update:
        return f"genai-prices of {prices.timestamp.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"genai-prices {genai_prices.__version__}"


class Pricing:
    """Calculates the cost of requests.

    Args:
        overrides: Prices of the user by model name (`gpt-5`, or `openai:gpt-5` for a single provider), matched against
            both the requested name and the name in the response (`gpt-5-2025-08-07`).
        on_error: Called with the exception of a user's price that raises.

    Raises:
        ConfigurationError: a price is invalid.
    """

    def __init__(
        self,
        overrides: Mapping[str, ModelPrice] | None = None,
        on_error: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._overrides = dict(overrides or {})
        self._on_error = on_error
        for name, price in self._overrides.items():
            _check(name, price)
        self._estimating: set[tuple[str | None, str]] = set()
        """Endpoints and models whose `usage.cost` has proved to be the estimate, and not a report of a gateway."""

    def cost(
        self,
        usage: Any,
        *,
        model: str | None,
        asked: str | None = None,
        provider: str | None = None,
        provider_url: str | None = None,
        details: Mapping[str, Any] | None = None,
        estimate: Any = None,
    ) -> Cost | None:
        """Return the cost of a request; None if unknown.

        Args:
            usage: Usage object of the provider library, with its `cost`.
            model: Name of the model in the response.
            asked: Requested name of the model, possibly shorter.
            provider: Name of the provider.
            provider_url: Base URL of the provider.
            details: Provider-specific details; OpenRouter reports its charge there.
            estimate: Recomputes the genai-prices estimate (a `Decimal`); called once per endpoint and model.
        """
        reported = _reported(details)
        if reported is not None:
            return Cost(reported, "provider")
        if not usage.has_values():
            return None  # the estimate for no tokens is 0, although the cost is unknown
        filled: Decimal | None = usage.cost
        if filled is not None and not self._is_estimate(filled, (provider_url, model or ""), estimate):
            return Cost(filled, "provider")
        override = self._override(provider, model) or self._override(provider, asked)
        if override is not None:
            try:
                return Cost(override.calc_price(usage)["total_price"], "override")
            except ValueError:  # contradictory counts, such as more cached tokens than input tokens
                return None
            except Exception as error:  # raised by a price calculation of the user
                self._on_error(error)
                return None
        return None if filled is None else Cost(filled, "genai-prices", price_list_version())

    def _override(self, provider: str | None, model: str | None) -> ModelPrice | None:
        return self._overrides.get(f"{provider}:{model}") or self._overrides.get(model or "")

    def _is_estimate(self, filled: Decimal, endpoint: tuple[str | None, str], estimate: Any) -> bool:
        # The cost reported by a gateway and the estimate share one field. Recomputing the estimate takes 80 µs, so an
        # endpoint seen once to carry the estimate is assumed to always carry it.
        if endpoint in self._estimating:
            return True
        try:
            same: bool = estimate is None or estimate() == filled
        except LookupError:  # an unlisted model has no estimate, so the cost is the provider's
            return False
        except Exception as error:  # undecided: do not attribute to the provider an amount that may be an estimate
            self._on_error(error)
            return True
        if same and filled and len(self._estimating) < 1_000:  # zero on both sides proves nothing
            self._estimating.add(endpoint)
        return same


class CacheEffect(NamedTuple):
    """Effect of the provider's prompt cache on the cost of a request, in US dollars. Net saving: `saved - spent`."""

    saved: float
    """Additional cost of the cache reads if they were plain input."""
    spent: float
    """Additional cost of the cache writes compared to plain input."""


def cache_effect(usage: Usage, *, model: str, provider: str | None) -> CacheEffect | None:
    """Estimate the effect of the provider's prompt cache with genai-prices.

    None if the model is not listed or the counts are contradictory. Takes about 0.3 ms, too long for the caller's path.
    """
    from genai_prices import Usage as Counts

    counts = {**{name: getattr(usage, name) or 0 for name in _PRICED}, **(usage.counts or {})}
    try:
        price = _listed_price(provider, model)
        actual, unread, unwritten = (
            price.calc_price(Counts(**{**counts, **dict.fromkeys(left_out, 0)}))["total_price"]
            for left_out in ((), _CACHE_READS, _CACHE_WRITES)
        )
    except (LookupError, ValueError):  # not listed, or contradictory counts
        return None
    return CacheEffect(float(unread - actual), float(actual - unwritten))


_CACHE_READS = ("cache_read_tokens", "cache_audio_read_tokens")
_CACHE_WRITES = ("cache_write_tokens", "cache_write_1h_tokens")
_PRICED = tuple(name for name in Usage.__struct_fields__ if name.endswith("_tokens") and name != "reasoning_tokens")
"""Reasoning tokens are left out, because output tokens already include them."""


@lru_cache(maxsize=256)
def _listed_price(provider: str | None, model: str) -> ModelPrice:
    """Current price of `model`. Raises `LookupError` if the model is not listed."""
    from genai_prices import Usage as Counts
    from genai_prices import calc_price

    return calc_price(Counts(input_tokens=1), model, provider_id=provider).model_price


def _check(name: str, price: object) -> None:
    from genai_prices.types import ModelPrice, Usage

    if not isinstance(price, ModelPrice):
        raise ConfigurationError(f"prices[{name!r}]: must be a genai_prices.types.ModelPrice, not {price!r}")
    if type(price) is not ModelPrice:
        return  # a custom calculation may need values that are missing here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # an unknown price key
            price.calc_price(Usage(input_tokens=1, output_tokens=1))
    except Exception as error:
        raise ConfigurationError(f"prices[{name!r}]: {error}") from None


def _reported(details: Mapping[str, Any] | None) -> Decimal | None:
    """Charge reported by OpenRouter; with the caller's own key (BYOK), plus the charge of the upstream provider."""
    if not details:
        return None
    charged = _decimal(details.get("cost"))
    if details.get("is_byok") is True:
        upstream = _decimal(details.get("upstream_inference_cost"))
        return charged if upstream is None else upstream + (charged or 0)
    return charged


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, int | float | str | Decimal) and not isinstance(value, bool):
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            return None
        return amount if amount.is_finite() and amount >= 0 else None
    return None
