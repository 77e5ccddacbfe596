"""Recorded provider streams through real clients: the caller's view is the same with and without a sidecar, and the
log matches the recording exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage, calc_price

from sidestream.events import StreamEvent
from tests.support.caller_view import Seen, prompt_of, watch, watch_observed
from tests.support.provider_server import Delivery, Exchange, ReadRecording
from tests.support.provider_streams import Answer, Part, read_answer
from tests.support.recorded_agents import BY_NAME, RECORDED_AGENTS, RecordedAgent
from tests.support.recorded_run_log import LoggedRequest, assert_usage, assert_whole, of, requests_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning"),
    pytest.mark.scenario_01,
    pytest.mark.scenario_16,
]

FAILS = "openrouter-error-mid-stream"
RETRIES = "groq-tool-use-failed-stream"


@dataclass
class Case:
    """Recording, and two runs against it."""

    recorded: RecordedAgent
    exchanges: list[Exchange]
    answers: list[Answer]
    """Answers in the raw recording."""
    bare: Seen
    observed: Seen
    events: list[StreamEvent]
    """Log of the observed run."""
    requests: list[LoggedRequest]

    @property
    def outcome(self) -> str:
        return "error" if self.recorded.recording == FAILS else "completed"


@pytest.fixture(scope="module", params=RECORDED_AGENTS, ids=[recorded.recording for recorded in RECORDED_AGENTS])
def case(request: pytest.FixtureRequest, recording: ReadRecording) -> Case:
    recorded: RecordedAgent = request.param
    exchanges = recording(recorded.recording)
    bare = watch(recorded, exchanges)
    observed, events = watch_observed(recorded, exchanges)
    return Case(
        recorded=recorded,
        exchanges=exchanges,
        answers=[read_answer(recorded.api, exchange.events) for exchange in exchanges],
        bare=bare,
        observed=observed,
        events=events,
        requests=requests_of(events),
    )


# --- the ground: the agents fit the recordings ------------------------------------------------------------------------


def test_the_agent_asks_what_was_asked_when_it_was_recorded(case: Case) -> None:
    assert len(case.bare.asked) == len(case.exchanges)
    for (method, path, body), exchange in zip(case.bare.asked, case.exchanges, strict=True):
        assert method == exchange.method
        assert path.rsplit("/", 1)[-1] == exchange.path.rsplit("/", 1)[-1]
        assert body.get("model") == exchange.request.get("model")
        assert body.get("stream") == exchange.request.get("stream")
        assert _tool_names(body) == _tool_names(exchange.request)
        assert json.dumps(prompt_of(case.recorded, case.exchanges)) in json.dumps(body)
        for key in ("messages", "contents", "input"):
            assert len(body.get(key, ())) == len(exchange.request.get(key, ()))


def _tool_names(body: dict[str, Any]) -> list[str]:
    names = []
    for tool in body.get("tools") or ():
        for function in tool.get("functionDeclarations") or [tool.get("function") or tool]:
            names.append(function["name"])
    return names


def test_a_recording_is_read_alike_in_whatever_pieces_it_arrives(recording: ReadRecording) -> None:
    recorded = BY_NAME["anthropic-cache-usage-stream"]  # contains a four-byte character
    exchanges = recording(recorded.recording)
    in_pieces, events = watch_observed(recorded, exchanges, Delivery(piece_bytes=11))
    assert in_pieces.comparable() == watch(recorded, exchanges).comparable()
    _assert_same_parts(requests_of(events)[0].parts(), read_answer(recorded.api, exchanges[0].events))


# --- the caller's side ------------------------------------------------------------------------------------------------


def test_the_caller_sees_the_same_events_result_history_and_exception(case: Case) -> None:
    assert [type(event) for event in case.observed.events] == [type(event) for event in case.bare.events]
    assert case.observed.comparable() == case.bare.comparable()


def test_the_run_ends_as_the_recording_does(case: Case) -> None:
    assert (case.observed.error is None) == (case.outcome == "completed")
    assert (case.observed.result is not None) == (case.outcome == "completed")


# --- the log ----------------------------------------------------------------------------------------------------------


def test_the_log_is_one_whole_run_with_a_request_for_each_answer(case: Case) -> None:
    assert_whole(case.events, case.outcome)
    assert len(case.requests) == len(case.answers)


def test_each_request_names_model_and_provider_and_is_a_streaming_one(case: Case) -> None:
    for request in case.requests:
        assert request.start.model == request.end.model
        assert request.start.model in (case.recorded.model, f"{case.recorded.provider}:{case.recorded.model}")
        assert request.start.provider == request.end.provider == case.recorded.provider
        assert request.start.streaming is True
        assert request.end.streaming is True


def test_each_request_ends_with_the_finish_reason_model_and_id_of_the_answer(case: Case) -> None:
    for request, answer in zip(case.requests, case.answers, strict=True):
        if answer.error is not None and case.recorded.recording == FAILS:
            continue
        assert request.end.outcome == "ok"
        assert request.end.finish_reason == answer.finish_reason
        assert request.end.response_model == answer.model
        assert request.end.response_id == answer.response_id


def test_usage_is_what_the_provider_counted(case: Case) -> None:
    for request, answer in zip(case.requests, case.answers, strict=True):
        if case.recorded.recording == FAILS:
            continue
        assert_usage(request.end.usage, answer.usage)
        assert request.end.usage_source == ("provider" if answer.usage else "none")


def test_the_deltas_are_those_of_the_stream(case: Case) -> None:
    for request, answer in zip(case.requests, case.answers, strict=True):
        _assert_same_parts(request.parts(), answer)


def _assert_same_parts(logged: list[Part], answer: Answer) -> None:
    given = [part for part in answer.parts.values() if part.pieces]
    logged = [part for part in logged if part.pieces]
    assert [part.kind for part in logged] == [part.kind for part in given]
    for ours, theirs in zip(logged, given, strict=True):
        if theirs.whole:
            assert json.loads("".join(ours.pieces)) == json.loads("".join(theirs.pieces))
        else:
            assert ours.pieces == theirs.pieces
        assert ours.tool_name == theirs.tool_name
        if theirs.tool_call_id is not None:
            assert ours.tool_call_id == theirs.tool_call_id


def test_each_delta_has_its_length_and_a_time_not_before_the_one_before(case: Case) -> None:
    for request in case.requests:
        for event in request.chunks:
            if event.data.lengths is not None:
                assert sum(event.data.lengths) == len(event.data.text)
                assert len(event.data.offsets_us) == len(event.data.lengths)
        for times in request.times().values():
            assert times == sorted(times)


def test_time_to_first_token_is_known_for_each_kind_that_came_in_the_order_in_which_it_came(case: Case) -> None:
    for request, answer in zip(case.requests, case.answers, strict=True):
        first = dict(request.end.time_to_first_token_seconds or {})
        first.pop("other", None)
        kinds = [kind for kind in answer.kinds if kind != "other"]
        assert set(first) == set(kinds)
        assert sorted(kinds, key=first.__getitem__) == kinds
        times = list(first.values())
        assert 0 < request.end.time_to_first_chunk_seconds <= min(times)
        assert max(times) <= request.end.duration_seconds


def test_cost_is_what_the_provider_charged_or_else_the_price_of_the_usage(case: Case) -> None:
    for request, answer in zip(case.requests, case.answers, strict=True):
        if case.recorded.recording == FAILS:
            continue
        if answer.cost is not None:
            assert (request.end.cost_usd, request.end.cost_source) == (float(answer.cost), "provider")
        elif answer.usage:
            price = _price(case.recorded.provider, answer)
            assert (request.end.cost_usd, request.end.cost_source) == (float(price), "genai-prices")
        else:
            assert (request.end.cost_usd, request.end.cost_source) == (None, None)


def _price(provider: str, answer: Answer) -> Decimal:
    counts = {name: count for name, count in answer.usage.items() if name != "reasoning_tokens"}
    context = {"service_tier": answer.service_tier} if answer.service_tier else None
    assert answer.model is not None
    return calc_price(Usage(**counts), answer.model, provider_id=provider, price_context=context).total_price


def test_the_end_of_the_run_sums_its_requests(case: Case) -> None:
    end = of(case.events, "agent_end")[0]
    logged = [request.end for request in case.requests]
    for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"):
        counts = [usage.get(name, 0) for r in logged if (usage := r.usage) is not None]
        assert (end.usage.get(name, 0) if end.usage is not None else 0) == sum(counts)
    costs = [Decimal(str(r.cost_usd)) for r in logged if r.cost_usd is not None]
    assert end.cost_usd == (float(sum(costs)) if costs else None)
    assert end.total_iterations == len(case.answers)
    assert end.tool_calls == len(of(case.events, "tool_start")) > -1


def test_each_tool_call_of_the_stream_is_executed_once_and_logged_with_its_arguments(case: Case) -> None:
    calls = [part for answer in case.answers for part in answer.parts.values() if part.kind == "tool_call"]
    calls = [part for part in calls if part.tool_name != "final_result"]
    starts = of(case.events, "tool_start")
    assert [start.tool_name for start in starts] == [call.tool_name for call in calls]
    for start, call in zip(starts, calls, strict=True):
        args = json.loads(start.args) if isinstance(start.args, str) else start.args
        assert args == json.loads("".join(call.pieces) or "{}")


def test_the_output_in_the_log_is_the_output_of_the_run(case: Case) -> None:
    if case.outcome == "error":
        assert of(case.events, "final_result") == []
        return
    (final,) = of(case.events, "final_result")
    output = case.bare.result.output
    assert final.output == (output if isinstance(output, str) else output.model_dump())


# --- single recordings ------------------------------------------------------------------------------------------------


def test_an_error_inside_the_stream_ends_request_and_run_with_an_error(recording: ReadRecording) -> None:
    recorded = BY_NAME[FAILS]
    exchanges = recording(FAILS)
    seen, events = watch_observed(recorded, exchanges)
    answer = read_answer(recorded.api, exchanges[0].events)
    (request,) = requests_of(events)
    assert seen.error is not None
    assert request.end.outcome == "error"
    assert request.end.exception_type == f"{type(seen.error).__module__}.{type(seen.error).__qualname__}"
    assert str(answer.error and answer.error["message"]) in request.end.error
    assert request.end.usage_source in ("partial", "none")
    if request.end.usage is not None:
        assert_usage(request.end.usage, answer.usage)
    (end,) = of(events, "agent_end")
    assert (end.outcome, end.exception_type) == ("error", request.end.exception_type)
    errors = of(events, "error")
    assert [(error.where, error.request) for error in errors] == [("model", 1)]


def test_a_call_that_the_provider_refused_inside_the_stream_is_retried(recording: ReadRecording) -> None:
    recorded = BY_NAME[RETRIES]
    _, events = watch_observed(recorded, recording(RETRIES))
    (retry,) = of(events, "retry")
    assert (retry.cause, retry.tool_name) == ("validation_error", "get_something_by_name")
    refused, taken = of(events, "tool_end")
    assert (refused.outcome, taken.outcome) == ("invalid", "ok")
    assert refused.duration_seconds is None
    assert taken.result == "Something with name: example"
    (end,) = of(events, "agent_end")
    assert (end.outcome, end.retries, end.total_iterations) == ("completed", 1, 3)


def test_a_charge_that_differs_from_the_price_list_wins(recording: ReadRecording) -> None:
    recorded = BY_NAME["openrouter-reasoning-stream"]
    (exchange,) = recording(recorded.recording)
    assert exchange.body.count(b'"cost":0.000669') == 1
    dearer = replace(exchange, body=exchange.body.replace(b'"cost":0.000669', b'"cost":0.0123'))
    _, events = watch_observed(recorded, [dearer])
    (request,) = requests_of(events)
    assert (request.end.cost_usd, request.end.cost_source) == (0.0123, "provider")
    assert of(events, "agent_end")[0].cost_usd == 0.0123


def test_a_model_without_a_price_has_no_cost_and_says_so(recording: ReadRecording) -> None:
    recorded = BY_NAME["openai-agent-tools-stream"]
    (exchange,) = recording(recorded.recording)
    unknown = replace(exchange, body=exchange.body.replace(b"gpt-4o-2024-08-06", b"a-model-of-our-own"))
    _, events = watch_observed(recorded, [unknown])
    (request,) = requests_of(events)
    assert request.end.response_model == "a-model-of-our-own"
    assert (request.end.cost_usd, request.end.cost_source, request.end.unpriced) == (None, None, True)
    (end,) = of(events, "agent_end")
    assert (end.cost_usd, end.unpriced_requests) == (None, 1)


def test_a_stream_that_never_says_what_it_used_has_no_usage(recording: ReadRecording) -> None:
    recorded = BY_NAME["openai-agent-tools-stream"]
    (exchange,) = recording(recorded.recording)
    *events_of_body, usage, done, rest = exchange.body.split(b"\n\n")
    assert b'"prompt_tokens":14' in usage
    silent = replace(exchange, body=b"\n\n".join([*events_of_body, done, rest]))
    _, events = watch_observed(recorded, [silent])
    (request,) = requests_of(events)
    assert (request.end.outcome, request.end.usage_source) == ("ok", "none")
    assert request.end.usage is None
    assert request.end.cost_usd is None
    assert of(events, "agent_end")[0].total_tokens is None


@pytest.mark.parametrize("name", ["openai-agent-tools-stream", "anthropic-thinking-stream", "google-tools-stream"])
def test_an_answer_with_an_error_status_is_an_error_without_usage_or_chunks(
    recording: ReadRecording, name: str
) -> None:
    refusal = b'{"type": "error", "error": {"type": "overloaded", "code": 529, "message": "come back later"}}'
    exchange = replace(recording(name)[0], status=529, headers=(("content-type", "application/json"),), body=refusal)
    bare = watch(BY_NAME[name], [exchange])
    observed, events = watch_observed(BY_NAME[name], [exchange])
    assert bare.error is not None
    assert observed.comparable() == bare.comparable()
    assert_whole(events, "error")
    (request,) = requests_of(events)
    assert (request.end.outcome, request.end.error) == ("error", str(bare.error))
    assert (request.end.usage, request.end.usage_source, request.end.cost_usd) == (None, "none", None)
    assert (request.chunks, request.end.time_to_first_chunk_seconds) == ([], None)
