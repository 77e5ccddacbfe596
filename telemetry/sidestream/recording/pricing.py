"""What a request cost, in US dollars, and who says so.

In this order: what the provider reported; the user's own price for the model; the estimate from genai-prices' offline
snapshot, which pydantic-ai has already filled in. A model that none of them knows has no cost, and neither has a
request whose tokens nobody counted: absent, never zero.
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
    """An amount with its provenance."""

    usd: Decimal
    source: CostSource
    version: str | None = None
    """Of the price list, for `genai-prices`."""


def price_list_version() -> str:
    """The version of the price list that estimates come from now: the package's, or the time of an updated list."""
    import genai_prices
    from genai_prices.data_snapshot import get_snapshot

    prices = get_snapshot()
    if prices.from_auto_update:
        return f"genai-prices of {prices.timestamp.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"genai-prices {genai_prices.__version__}"


class Pricing:
    """Prices requests.

    Args:
        overrides: The user's prices by model name (`gpt-5`, or `openai:gpt-5` for one provider's alone), as it is asked
            for or as the provider calls it in its answer (`gpt-5-2025-08-07`).
        on_error: Told of a price of the user's that raises.

    Raises:
        ConfigurationError: a price that cannot be used.
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
        """Endpoint and model whose filled cost has been seen to be the estimate, not a gateway's report."""

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
        """The cost of a request, or None where it is not known.

        Args:
            usage: The provider library's usage object, with `cost` as it filled it.
            model: Name of the model that answered.
            asked: Name of the model that was asked, which may be the shorter one.
            provider: Name of the provider.
            provider_url: Its base URL.
            details: The provider's extras; OpenRouter reports its charge there.
            estimate: Computes the genai-prices estimate (a `Decimal`) anew; called once for each endpoint and model.
        """
        reported = _reported(details)
        if reported is not None:
            return Cost(reported, "provider")
        if not usage.has_values():
            return None  # an estimate of no tokens is 0, which nobody has said
        filled: Decimal | None = usage.cost
        if filled is not None and not self._is_estimate(filled, (provider_url, model or ""), estimate):
            return Cost(filled, "provider")
        override = self._override(provider, model) or self._override(provider, asked)
        if override is not None:
            try:
                return Cost(override.calc_price(usage)["total_price"], "override")
            except ValueError:  # counts that contradict each other: more tokens from the cache than there were
                return None
            except Exception as error:  # a calculation of the user's own
                self._on_error(error)
                return None
        return None if filled is None else Cost(filled, "genai-prices", price_list_version())

    def _override(self, provider: str | None, model: str | None) -> ModelPrice | None:
        return self._overrides.get(f"{provider}:{model}") or self._overrides.get(model or "")

    def _is_estimate(self, filled: Decimal, endpoint: tuple[str | None, str], estimate: Any) -> bool:
        # A gateway's reported cost and the estimate arrive in the same field. Computing the estimate again takes
        # 80 µs, so an endpoint that was seen to leave the field to the estimate is taken to go on doing so.
        if endpoint in self._estimating:
            return True
        try:
            same: bool = estimate is None or estimate() == filled
        except LookupError:  # the list does not know the model, so the cost is none of its estimates
            return False
        except Exception as error:  # it cannot be told: what may be an estimate is not called the provider's
            self._on_error(error)
            return True
        if same and filled and len(self._estimating) < 1_000:  # a zero of both says nothing
            self._estimating.add(endpoint)
        return same


class CacheEffect(NamedTuple):
    """What the provider's prompt cache did to the cost of a request, in US dollars; its saving is the difference."""

    saved: float
    """By reading: what was read would have cost so much more as plain input."""
    spent: float
    """On writing: what was written cost so much more than plain input."""


def cache_effect(usage: Usage, *, model: str, provider: str | None) -> CacheEffect | None:
    """What the provider's cache saved and cost, by genai-prices' estimate.

    None where that cannot be told. Takes about 0.3 ms, so it is not for the caller's path.
    """
    from genai_prices import Usage as Counts

    counts = {**{name: getattr(usage, name) or 0 for name in _PRICED}, **(usage.counts or {})}
    try:
        price = _listed_price(provider, model)
        actual, unread, unwritten = (
            price.calc_price(Counts(**{**counts, **dict.fromkeys(left_out, 0)}))["total_price"]
            for left_out in ((), _CACHE_READS, _CACHE_WRITES)
        )
    except (LookupError, ValueError):  # not listed, or counts that contradict each other
        return None
    return CacheEffect(float(unread - actual), float(actual - unwritten))


_CACHE_READS = ("cache_read_tokens", "cache_audio_read_tokens")
_CACHE_WRITES = ("cache_write_tokens", "cache_write_1h_tokens")
_PRICED = tuple(name for name in Usage.__struct_fields__ if name.endswith("_tokens") and name != "reasoning_tokens")
"""Reasoning is output like any other."""


@lru_cache(maxsize=256)
def _listed_price(provider: str | None, model: str) -> ModelPrice:
    """The price of `model` as of now. Raises `LookupError` where it is not listed."""
    from genai_prices import Usage as Counts
    from genai_prices import calc_price

    return calc_price(Counts(input_tokens=1), model, provider_id=provider).model_price


def _check(name: str, price: object) -> None:
    from genai_prices.types import ModelPrice, Usage

    if not isinstance(price, ModelPrice):
        raise ConfigurationError(f"prices[{name!r}]: must be a genai_prices.types.ModelPrice, not {price!r}")
    if type(price) is not ModelPrice:
        return  # one with a calculation of its own, which may need more than is at hand here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # a price key that does not exist
            price.calc_price(Usage(input_tokens=1, output_tokens=1))
    except Exception as error:
        raise ConfigurationError(f"prices[{name!r}]: {error}") from None


def _reported(details: Mapping[str, Any] | None) -> Decimal | None:
    """What OpenRouter charged, and with the caller's own key what the provider behind it charges as well."""
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
