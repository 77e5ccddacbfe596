"""Cost of requests, its source, and its sums."""

from __future__ import annotations

import asyncio
import functools
import logging
import operator
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices.types import ModelPrice
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai import Agent, ModelResponse, RunContext
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.usage import RequestUsage

from sidestream import ConfigurationError, InMemoryExporter, Sidecar, StreamEvent
from sidestream.diagnostics import forget
from sidestream.events import Usage
from sidestream.recording.pricing import Cost, Pricing, cache_effect
from sidestream.recording.response import ResponseFacts
from tests.support.direct_run import run_into
from tests.support.loopback import until
from tests.support.provider_model import Facts, Says, call, stream, used

pytestmark = pytest.mark.scenario_16

PRICES = {"house-model": ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(10))}
GPT5_INPUT, GPT5_OUTPUT = Decimal("1.25") / 10**6, Decimal(10) / 10**6
MODES = pytest.mark.parametrize("streamed", [False, True], ids=["run", "stream"])


class Observed:
    """Log of several runs."""

    def __init__(self, *agents: Agent[Any, Any], streamed: bool = False, times: int = 1, **options: Any) -> None:
        self.memory = InMemoryExporter()
        with Sidecar(self.memory, **options) as sidecar:

            async def main() -> None:
                for agent in agents:
                    sidecar.observe(agent)
                for _ in range(times):
                    await (stream(agents[0]) if streamed else agents[0].run("go"))

            asyncio.run(main())
            sidecar.flush()
            self.stats = sidecar.stats()
        assert self.stats.recording_errors == 0

    @property
    def request(self) -> Any:
        """End of the first request."""
        return self.memory.of("llm_end")[0].data

    @property
    def run(self) -> Any:
        """End of the outermost run."""
        return self.memory.of("agent_end")[-1].data


def answering(*facts: Facts, **options: Any) -> Agent[None, str]:
    return Agent(Says([["fine", *facts]], **options), name="a")


# --- who says what it cost -----------------------------------------------------------------------------------------


@MODES
def test_the_estimate_says_that_it_is_one_and_by_which_list(streamed: bool) -> None:
    data = Observed(answering(used(1_000, 100)), streamed=streamed).request
    assert data["cost_usd"] == float(1_000 * GPT5_INPUT + 100 * GPT5_OUTPUT)
    assert data["cost_source"] == "genai-prices"
    assert data["price_version"] == f"genai-prices {genai_prices.__version__}"
    assert "unpriced" not in data


@MODES
@pytest.mark.parametrize("cost", [0.0123, "0.0123", Decimal("0.0123")])
def test_what_the_provider_reports_in_its_details_wins(streamed: bool, cost: Any) -> None:
    """As OpenRouter does; overrides the estimate and the user's price."""
    agent = answering(Facts(RequestUsage(input_tokens=1_000, output_tokens=100), {"cost": cost}))
    data = Observed(agent, streamed=streamed, prices={"gpt-5": PRICES["house-model"]}).request
    assert (data["cost_usd"], data["cost_source"]) == (0.0123, "provider")
    assert "price_version" not in data


def test_with_the_callers_own_key_the_upstream_charge_is_added_to_the_fee() -> None:
    """OpenRouter then reports its own fee as the cost, and the charge to the caller's account separately."""
    details = {"cost": 0.01, "is_byok": True, "upstream_inference_cost": 0.2}
    assert Observed(answering(Facts(RequestUsage(input_tokens=1), details))).request["cost_usd"] == 0.21
    without_fee = {"is_byok": True, "upstream_inference_cost": 0.2}
    assert Observed(answering(Facts(RequestUsage(input_tokens=1), without_fee))).request["cost_usd"] == 0.2
    included = {"cost": 0.2, "is_byok": False, "upstream_inference_cost": 0.2}
    assert Observed(answering(Facts(RequestUsage(input_tokens=1), included))).request["cost_usd"] == 0.2


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1, True, "a lot", None, [0.1]])
def test_a_report_that_is_no_amount_is_passed_over(cost: Any) -> None:
    agent = answering(Facts(RequestUsage(input_tokens=1_000), {"cost": cost}))
    assert Observed(agent).request["cost_source"] == "genai-prices"


@MODES
def test_a_gateways_report_is_told_from_the_estimate(streamed: bool) -> None:
    """Report and estimate share a field; an amount that differs from the estimate was reported, and overrides any
    price."""
    agent = answering(used(1_000, 100, cost=Decimal("0.5")))
    data = Observed(agent, streamed=streamed, prices={"gpt-5": PRICES["house-model"]}).request
    assert (data["cost_usd"], data["cost_source"]) == (0.5, "provider")


def test_a_gateways_report_for_a_model_without_a_price_counts() -> None:
    data = Observed(answering(used(5, 5, cost=Decimal("0.25")), name="house-model", vendor="house")).request
    assert (data["cost_usd"], data["cost_source"]) == (0.25, "provider")


def test_a_gateways_zero_does_not_teach_that_its_reports_are_estimates() -> None:
    """A cache hit of the gateway: both the report and the estimate are 0."""
    pricing = Pricing({"m": ModelPrice(input_mtok=Decimal(1))})

    def cost(filled: str, estimate: str, tokens: int) -> Any:
        usage = RequestUsage(input_tokens=tokens, cost=Decimal(filled), details={"x": 1})
        return pricing.cost(usage, model="m", provider_url="http://gateway", estimate=lambda: Decimal(estimate))

    cost("0", "0", 0)
    assert cost("0.5", "0.4", 10).source == "provider"


# --- the user's own prices -----------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("key", ["house-model", "house:house-model"])
def test_a_price_of_the_users_own_by_model_or_provider_and_model(key: str, streamed: bool) -> None:
    agent = answering(used(1_000, 100), name="house-model", vendor="house", url="http://house")
    data = Observed(agent, streamed=streamed, prices={key: PRICES["house-model"]}).request
    assert (data["cost_usd"], data["cost_source"]) == (0.002, "override")
    assert "price_version" not in data


def test_the_price_for_one_provider_beats_the_price_for_all() -> None:
    prices = {"gpt-5": ModelPrice(input_mtok=Decimal(1)), "openai:gpt-5": ModelPrice(input_mtok=Decimal(2))}
    assert Observed(answering(used(10**6, 0)), prices=prices).request["cost_usd"] == 2.0


def test_a_price_beats_the_estimate() -> None:
    """For users with other prices than those of the list."""
    data = Observed(answering(used(10**6, 0)), prices={"gpt-5": ModelPrice(input_mtok=Decimal("0.5"))}).request
    assert (data["cost_usd"], data["cost_source"]) == (0.5, "override")


@MODES
def test_a_price_for_the_name_that_was_asked_holds_for_the_dated_name_that_answers(streamed: bool) -> None:
    agent = answering(used(10**6, 0), asked="gpt-5", name="gpt-5-2025-08-07")
    data = Observed(agent, streamed=streamed, prices={"gpt-5": ModelPrice(input_mtok=Decimal(3))}).request
    assert (data["cost_usd"], data["cost_source"]) == (3.0, "override")


EVERY_PRICE = ModelPrice(
    input_mtok=Decimal(10),
    cache_read_mtok=Decimal(1),
    cache_write_mtok=Decimal(20),
    input_audio_mtok=Decimal(100),
    cache_audio_read_mtok=Decimal(50),
    cache_audio_write_mtok=Decimal(200),
    output_mtok=Decimal(40),
    output_audio_mtok=Decimal(400),
)


@pytest.mark.parametrize(
    ("parts", "dollars_per_million"),
    [
        (
            {"cache_read_tokens": 5_000, "cache_write_tokens": 1_000, "output_reasoning_tokens": 300},
            4_000 * 10 + 5_000 * 1 + 1_000 * 20 + 1_000 * 40,
        ),
        (
            {
                "input_audio_tokens": 500,
                "output_audio_tokens": 100,
                "cache_read_tokens": 50,
                "cache_audio_read_tokens": 50,
            },
            9_500 * 10 + 450 * 100 + 50 * 50 + 900 * 40 + 100 * 400,
        ),
    ],
    ids=["cache and reasoning", "audio"],
)
def test_a_price_covers_cache_audio_and_reasoning(parts: dict[str, int], dollars_per_million: int) -> None:
    """Each kind of token at its own price, counted once; logged counts follow OpenTelemetry's rule."""
    data = Observed(answering(used(10_000, 1_000, **parts), name="m"), prices={"m": EVERY_PRICE}).request
    assert data["cost_usd"] == pytest.approx(dollars_per_million / 10**6, rel=1e-12)
    if "output_reasoning_tokens" in parts:
        parts = {**parts, "reasoning_tokens": parts["output_reasoning_tokens"]}
        del parts["output_reasoning_tokens"]
    assert dict(data["usage"]) == {"input_tokens": 10_000, "output_tokens": 1_000, **parts}


def test_counts_that_contradict_each_other_have_no_cost_and_do_no_harm() -> None:
    """More cached tokens than input tokens."""
    price = ModelPrice(input_mtok=Decimal(1), cache_read_mtok=Decimal("0.1"))
    agent = answering(used(10, 1, cache_read_tokens=50), name="house-model")
    observed = Observed(agent, prices={"house-model": price})
    assert "cost_usd" not in observed.request
    assert observed.request["unpriced"] is True
    assert observed.run["outcome"] == "completed"


@pytest.mark.parametrize(
    "price",
    [{"input_mtok": 1}, 1.5, None, ModelPrice(input_mtok=1.5), ModelPrice(input_motk=Decimal(1))],  # type: ignore[arg-type]
)
def test_a_price_that_cannot_work_is_a_clear_error_at_once(price: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"prices\['my-model'\]"):
        Sidecar(InMemoryExporter(), prices={"my-model": price})


# --- the estimate is recognized ------------------------------------------------------------------------------------


class Recomputed:
    """Estimates that are counted."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Decimal:
        self.count += 1
        return Decimal("0.5")


def test_the_estimate_of_an_endpoint_and_model_is_recomputed_once() -> None:
    pricing, estimate = Pricing(), Recomputed()
    usage = RequestUsage(input_tokens=10)
    usage.cost = Decimal("0.5")
    for url, model in [("a", "m"), ("a", "m"), ("b", "m"), ("b", "m"), ("b", "n")]:
        cost = pricing.cost(usage, model=model, provider_url=url, estimate=estimate)
        assert cost is not None
        assert cost.source == "genai-prices"
    assert estimate.count == 3


def test_a_thousand_endpoints_are_remembered_and_no_more() -> None:
    pricing, estimate = Pricing(), Recomputed()
    usage = RequestUsage(input_tokens=10)
    usage.cost = Decimal("0.5")
    for _ in range(2):
        for number in range(1_001):
            pricing.cost(usage, model="m", provider_url=str(number), estimate=estimate)
    assert estimate.count == 1_001 + 1


# --- the cache of the provider -------------------------------------------------------------------------------------


def test_the_effect_of_the_cache_is_the_difference_to_plain_input() -> None:
    usage = Usage(input_tokens=1_000, output_tokens=10, cache_read_tokens=300, cache_write_tokens=200)
    effect = cache_effect(usage, model="claude-sonnet-4-5", provider="anthropic")
    assert effect is not None
    assert effect.saved == pytest.approx(300 * (3 - 0.3) / 1e6, rel=1e-9)
    assert effect.spent == pytest.approx(200 * (3.75 - 3) / 1e6, rel=1e-9)


def test_without_a_cache_there_is_no_effect() -> None:
    assert cache_effect(Usage(input_tokens=1_000), model="claude-sonnet-4-5", provider="anthropic") == (0, 0)


@pytest.mark.parametrize(
    ("usage", "model"),
    [
        (Usage(input_tokens=10, cache_read_tokens=50), "claude-sonnet-4-5"),
        (Usage(input_tokens=10, cache_read_tokens=5), "no such model"),
    ],
    ids=["counts that contradict each other", "a model that is not listed"],
)
def test_an_effect_that_cannot_be_known_is_absent(usage: Usage, model: str) -> None:
    assert cache_effect(usage, model=model, provider="anthropic") is None


# --- absent is not zero --------------------------------------------------------------------------------------------


def test_a_model_without_a_price_has_no_cost_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """Marked on each request, counted for the run and the sidecar, with one warning for the model."""
    forget()
    with caplog.at_level(logging.WARNING, "sidestream"):
        observed = Observed(answering(used(7, 3), name="cottage-model", vendor="house", url="http://house"), times=3)
        until(lambda: "cottage-model" in caplog.text)  # a worker logs the warning, possibly after the close
    for request in observed.memory.of("llm_end"):
        assert "cost_usd" not in request.data
        assert request.data["unpriced"] is True
    assert "cost_usd" not in observed.run
    assert observed.run["unpriced_requests"] == 1
    assert observed.stats.unpriced_requests == 3
    assert caplog.text.count("cottage-model") == 1


def test_each_request_without_a_price_is_counted_once() -> None:
    agent = Agent(
        Says(
            [[call("look"), used(7, 3)], ["done", used(7, 3)]], name="cottage-model", vendor="house", url="http://house"
        )
    )

    @agent.tool_plain
    def look() -> str:
        return "nothing"

    observed = Observed(agent, times=2)
    assert observed.run["unpriced_requests"] == 2
    assert observed.stats.unpriced_requests == 4


def test_a_model_that_is_free_costs_zero() -> None:
    """Zero is a number, in contrast to an unknown cost."""
    observed = Observed(answering(used(7, 3), name="free"), prices={"free": ModelPrice(input_mtok=Decimal(0))})
    assert (observed.request["cost_usd"], observed.run["cost_usd"]) == (0.0, 0.0)
    assert "unpriced" not in observed.request


@MODES
def test_a_request_whose_usage_nobody_gave_has_neither_usage_nor_cost(streamed: bool) -> None:
    observed = Observed(answering(), streamed=streamed, prices={"gpt-5": PRICES["house-model"]})
    assert observed.request["usage_source"] == "none"
    for data in (observed.request, observed.run):
        assert not {"usage", "cost_usd", "total_tokens", "unpriced", "unpriced_requests"} & set(data)


def test_a_cost_without_counts_brings_no_zero_counts() -> None:
    observed = Observed(answering(Facts(RequestUsage(cost=Decimal("0.5")))))
    assert observed.request["cost_usd"] == 0.5
    assert "usage" not in observed.request


def test_counters_of_the_providers_own_are_kept_under_its_names() -> None:
    data = Observed(answering(used(5, 5, details={"audio_tokens": 3, "thoughts_tokens": 2}))).request
    assert data["usage"]["details"] == {"audio_tokens": 3, "thoughts_tokens": 2}
    assert data["usage"]["reasoning_tokens"] == 2


@pytest.mark.parametrize(
    "steps",
    [
        ["a", used(10, 1), "b", used(10, 2), "c", used(10, 3)],
        ["a", "b", "c", used(10, 3)],
        [used(10, 3), "a", "b", "c"],
    ],
    ids=["cumulative", "at the end", "at the start"],
)
def test_usage_is_counted_once_whenever_the_stream_tells_it(steps: list[Any]) -> None:
    data = Observed(Agent(Says([steps])), streamed=True).request
    assert dict(data["usage"]) == {"input_tokens": 10, "output_tokens": 3}
    assert data["usage_source"] == "provider"


def test_a_stream_that_is_left_early_has_what_was_told_until_then() -> None:
    """Marked as partial, because the provider may charge more."""
    memory = InMemoryExporter()
    agent = Agent(Says([[used(1_000, 1), *"abcdefgh", used(1_000, 500)]]))

    async def main() -> None:
        async with agent.run_stream("go") as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                break

    with Sidecar(memory) as sidecar:
        sidecar.observe(agent)
        asyncio.run(main())
    (end,) = memory.of("llm_end")
    assert (end.data["outcome"], end.data["usage_source"]) == ("interrupted", "partial")
    assert dict(end.data["usage"]) == {"input_tokens": 1_000, "output_tokens": 1}
    assert end.data["cost_usd"] == float(1_000 * GPT5_INPUT + GPT5_OUTPUT)


# --- sums ----------------------------------------------------------------------------------------------------------


def test_what_a_rejected_answer_of_a_fallback_used_is_in_the_totals() -> None:
    """A failed attempt is billed at the price of its model."""
    rejected = Says([["bad", used(100, 10)]], name="house-model", vendor="house", url="http://house")
    model = FallbackModel(rejected, Says([["good", used(200, 20)]]), fallback_on=[_is_bad])
    observed = Observed(Agent(model), prices=PRICES)
    (attempt,) = observed.request["failed_attempts"]
    assert (attempt["model"], attempt["outcome"]) == ("house-model", "rejected")
    assert attempt["cost_usd"] == float(100 * Decimal(1) / 10**6 + 10 * Decimal(10) / 10**6)
    assert dict(observed.request["usage"]) == {"input_tokens": 200, "output_tokens": 20}
    assert dict(observed.run["usage"]) == {"input_tokens": 300, "output_tokens": 30}
    own = 200 * GPT5_INPUT + 20 * GPT5_OUTPUT
    assert observed.run["cost_usd"] == pytest.approx(float(own) + attempt["cost_usd"], abs=1e-12)


def _is_bad(response: ModelResponse) -> bool:
    return any(getattr(part, "content", "") == "bad" for part in response.parts)


def test_when_every_answer_of_a_fallback_is_rejected_all_of_them_are_paid() -> None:
    memory = InMemoryExporter()
    bad = Says([["bad", used(100, 10)]])
    with Sidecar(memory) as sidecar:
        agent = sidecar.observe(Agent(FallbackModel(bad, bad, fallback_on=[_is_bad])))
        with pytest.raises(ExceptionGroup):
            agent.run_sync("go")
    (end,) = memory.of("agent_end")
    assert dict(end.data["usage"]) == {"input_tokens": 200, "output_tokens": 20}
    assert end.data["cost_usd"] == float(2 * (100 * GPT5_INPUT + 10 * GPT5_OUTPUT))


def test_a_rejected_answer_without_a_price_makes_the_cost_a_lower_bound() -> None:
    rejected = Says([["bad", used(100, 10)]], name="house-model", vendor="house", url="http://house")
    run = Observed(Agent(FallbackModel(rejected, Says([["good", used(1, 1)]]), fallback_on=[_is_bad]))).run
    assert run["cost_usd"] == float(GPT5_INPUT + GPT5_OUTPUT)
    assert run["unpriced_requests"] == 1


@pytest.mark.parametrize("shared", [False, True], ids=["usage of its own", "usage=ctx.usage"])
@MODES
def test_a_parent_and_its_sub_agents_are_never_counted_twice(shared: bool, streamed: bool) -> None:
    """Own totals exclude sub-agents; totals with children include each request once, at every depth."""
    grandchild: Agent[Any, Any] = Agent(Says([["low", used(100, 0)]]), name="grandchild")
    child: Agent[Any, Any] = Agent(Says([[call("deeper"), used(10, 0)], ["mid", used(10, 0)]]), name="child")
    parent: Agent[Any, Any] = Agent(
        Says([[call("ask", id="1"), call("ask", id="2"), used(1, 0)], ["top", used(1, 0)]]), name="parent"
    )

    @child.tool
    async def deeper(ctx: RunContext[Any]) -> Any:
        return (await grandchild.run("go", usage=ctx.usage if shared else None)).output

    @parent.tool
    async def ask(ctx: RunContext[Any]) -> Any:
        return (await child.run("go", usage=ctx.usage if shared else None)).output

    memory = Observed(parent, child, grandchild, streamed=streamed).memory
    ends = {event.agent_name: event.data for event in memory.of("agent_end")}
    own = {name: data["usage"]["input_tokens"] for name, data in ends.items()}
    everything = {name: data.get("usage_with_children", {}).get("input_tokens") for name, data in ends.items()}
    assert own == {"parent": 2, "child": 20, "grandchild": 100}
    assert everything == {"parent": 2 + 2 * 120, "child": 120, "grandchild": None}
    requests = sum(event.data["usage"]["input_tokens"] for event in memory.of("llm_end"))
    assert requests == everything["parent"]
    assert ends["parent"]["cost_usd_with_children"] == float(242 * GPT5_INPUT)
    assert (ends["parent"]["sub_agents"], ends["child"]["sub_agents"]) == (2, 1)


def test_the_costs_of_a_thousand_requests_add_up_exactly() -> None:
    """Decimal arithmetic: a thousand times 0.1 is exactly 100, in contrast to floats."""
    events: list[StreamEvent] = []
    run = run_into(events)
    run.start()
    for _ in range(1_000):
        run.request(model="m", streaming=False).end("ok", ResponseFacts(cost=Cost(Decimal("0.1"), "provider")))
    run.end("completed")
    assert functools.reduce(operator.add, [0.1] * 1_000) != 100.0
    assert (events[-1].data["cost_usd"], events[-1].data["total_iterations"]) == (100.0, 1_000)
    assert events[-2].data["total_cost_usd"] == 100.0


@given(st.decimals(0, 1_000, places=12))
@settings(max_examples=30)
def test_a_reported_cost_is_taken_digit_by_digit(amount: Decimal) -> None:
    cost = Pricing().cost(RequestUsage(), model="m", details={"cost": str(amount)})
    assert cost is not None
    assert cost.usd == amount
