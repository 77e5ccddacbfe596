"""Usage normalisation: any types from a provider produce valid lines, and absent is not zero."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from sidestream import InMemoryExporter, Sidecar, decode_line, encode_line
from sidestream.events import LLMEnd, Usage, make_event
from sidestream.recording.pricing import Pricing
from sidestream.recording.usage import raw_usage, usage_of

pytestmark = pytest.mark.scenario_16

ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**30), st.floats(), st.text(max_size=5), st.decimals(), st.just([1])
)
NAMES = st.sampled_from(
    ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_1h_tokens", "web_searches", "audio_seconds"]
)


@pytest.mark.scenario_31
@given(counts=st.dictionaries(NAMES, ANYTHING), details=st.dictionaries(st.text(max_size=8), ANYTHING))
def test_our_own_reader_takes_whatever_a_provider_sent(counts: dict[str, Any], details: dict[str, Any]) -> None:
    used = usage_of(counts, details)
    end = LLMEnd(request=1, outcome="ok", duration_seconds=0.1, usage=used, usage_source="provider")
    event = make_event(end, run_id="r")
    read = decode_line(encode_line(event))
    assert read.data == end


def test_flags_among_the_details_are_no_counts() -> None:
    used = usage_of({"input_tokens": 3, "output_tokens": 1}, {"is_byok": True, "searches": 2})
    assert used == Usage(input_tokens=3, output_tokens=1, details={"searches": 2})


@pytest.mark.parametrize(
    ("counts", "details"),
    [
        ({}, {}),
        ({"input_tokens": 0, "output_tokens": 0}, {}),
        ({"input_tokens": 0, "output_tokens": 0}, {"audio_tokens": 0, "reasoning_tokens": 0}),
        ({"input_tokens": None}, {"flag": False}),
    ],
)
def test_zeros_of_a_gateway_are_no_usage(counts: dict[str, Any], details: dict[str, Any]) -> None:
    assert usage_of(counts, details) is None


def test_counts_that_a_price_depends_on_are_told_by_their_names() -> None:
    used = usage_of({"input_tokens": 10, "cache_write_tokens": 8, "cache_write_1h_tokens": 8, "web_searches": 3})
    assert used is not None
    assert (used.cache_write_1h_tokens, used.counts) == (8, {"web_searches": 3})


def test_a_raw_answer_is_read_as_its_provider_counts() -> None:
    answer = {
        "model": "claude-sonnet-4-5",
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 2},
    }
    used = raw_usage(answer, provider="anthropic")
    assert used is not None
    assert (used.input_tokens, used.cache_read_tokens, used.output_tokens) == (12, 7, 2)


@pytest.mark.parametrize("answer", [{}, {"usage": "much"}, None, {"model": 3, "usage": {"input_tokens": "x"}}])
def test_a_raw_answer_that_cannot_be_read_has_no_usage(answer: Any) -> None:
    assert raw_usage(answer, provider="anthropic") is None


def _end_of(usage: RequestUsage, details: dict[str, Any] | None = None) -> LLMEnd:
    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(
            parts=[TextPart("ok")],
            usage=usage,
            model_name="gpt-5-mini",
            provider_name="openai",
            provider_details=details,
        )

    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        asyncio.run(sidecar.observe(Agent(FunctionModel(answer), name="a")).run("hi"))
    data: LLMEnd = memory.of("llm_end")[0].data
    return data


def test_what_a_provider_says_of_its_answer_is_told() -> None:
    details = {
        "service_tier": "flex",
        "downstream_provider": "Amazon Bedrock",
        "finish_reason": "pause_turn",
        "batch": True,
    }
    end = _end_of(RequestUsage(input_tokens=5, output_tokens=1), details)
    assert (end.service_tier, end.served_by, end.raw_finish_reason) == ("flex", "Amazon Bedrock", "pause_turn")
    assert end.provider_details == {"batch": True}


def test_details_that_may_be_content_stay_out() -> None:
    end = _end_of(RequestUsage(input_tokens=5, output_tokens=1), {"refusal": "I will not", "annotations": ["a"]})
    assert end.provider_details is None


def test_a_price_of_ones_own_that_raises_is_told_and_is_not_no_price() -> None:
    from genai_prices.types import ModelPrice

    class Raises(ModelPrice):
        def calc_price(self, usage: Any) -> Any:
            raise ZeroDivisionError

    told: list[Exception] = []
    pricing = Pricing({"m": Raises()}, on_error=told.append)
    usage = RequestUsage(input_tokens=5, output_tokens=1)
    assert pricing.cost(usage, model="m") is None
    assert [type(error) for error in told] == [ZeroDivisionError]


@pytest.mark.parametrize(("error", "source"), [(LookupError(), "provider"), (RuntimeError(), "genai-prices")])
def test_what_may_be_an_estimate_is_not_called_the_provider_s(error: Exception, source: str) -> None:
    """An unlisted model has no estimate; any other failure of the estimate is ambiguous."""
    usage = RequestUsage(input_tokens=5, output_tokens=1)
    usage.cost = Decimal("0.5")

    def estimate() -> Decimal:
        raise error

    cost = Pricing().cost(usage, model="m", provider_url="u", estimate=estimate)
    assert cost is not None
    assert cost.source == source
