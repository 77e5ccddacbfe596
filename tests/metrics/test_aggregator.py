"""Aggregation of events into metrics: each value is counted once, in the right place; unknown values are not
counted."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidestream.events import Attempt, LLMChunk, Retry, StreamEvent, ToolEnd, ToolStart, Usage
from sidestream.events.ids import span_id_of
from sidestream.metrics.aggregator import MAX_RUNS, MetricsAggregator
from sidestream.metrics.definitions import BY_NAME, METRICS
from sidestream.metrics.store import Origin
from sidestream.recording.pricing import cache_effect
from sidestream.stats import ExporterStats, SidecarStats
from tests.support.metric_samples import (
    answered,
    asked,
    by_labels,
    count,
    ended,
    measured,
    points,
    run_of,
    started,
    usage,
    value,
)

pytestmark = pytest.mark.scenario_18

DURATION = "gen_ai_client_operation_duration_seconds"
GAPS = "gen_ai_client_operation_time_per_output_chunk_seconds"

# --- totals ---------------------------------------------------------------------------------------------------------

COUNTS = st.one_of(st.none(), st.integers(0, 10**9))
REQUESTS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["gpt-5", "claude-x", "house"]),
        "provider": st.sampled_from(["openai", "anthropic", None]),
        "usage": st.one_of(
            st.none(),
            st.builds(
                Usage,
                input_tokens=COUNTS,
                output_tokens=COUNTS,
                cache_read_tokens=COUNTS,
                cache_write_tokens=COUNTS,
                reasoning_tokens=COUNTS,
            ),
        ),
        "cost_usd": st.one_of(st.none(), st.floats(0, 1e6)),
        "outcome": st.sampled_from(["ok", "error", "cancelled", "interrupted", "retry", "skipped"]),
        "duration_seconds": st.floats(0, 1e5),
        "attempts": st.integers(0, 2),
    }
)
RUNS = st.fixed_dictionaries(
    {
        "agent": st.sampled_from(["support", "search", None]),
        "outcome": st.sampled_from(["completed", "error", "cancelled", "timed_out", "abandoned", None]),
        "requests": st.lists(REQUESTS, max_size=4),
        "tools": st.lists(st.sampled_from(["ok", "failed", "retry", "invalid"]), max_size=4),
        "duration_seconds": st.floats(0, 1e5),
    }
)


def _events(number: int, run: dict[str, Any]) -> list[StreamEvent]:
    payloads: list[Any] = [started(f"r{number}")]
    for request, facts in enumerate(run["requests"], 1):
        facts = dict(facts)
        tried = facts.pop("attempts")
        attempts = [Attempt(model="first", outcome="error", usage=usage(3, 1), cost_usd=0.25)] * tried
        facts["unpriced"] = True if facts["usage"] is not None and facts["cost_usd"] is None else None
        payloads += [asked(request), answered(request, **facts, failed_attempts=attempts or None)]
    for place, outcome in enumerate(run["tools"]):
        ran = None if outcome == "invalid" else 0.5
        payloads += [
            ToolStart(tool_name="look", tool_call_id=f"c{place}"),
            ToolEnd(tool_name="look", tool_call_id=f"c{place}", outcome=outcome, duration_seconds=ran),
        ]
    if run["outcome"] is not None:
        iterations = len(run["requests"])
        payloads.append(ended(run["outcome"], duration_seconds=run["duration_seconds"], total_iterations=iterations))
    return run_of(*payloads, run_id=f"r{number}", agent=run["agent"])


@given(st.lists(RUNS, max_size=6), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_the_sums_over_any_runs_at_once_are_those_of_their_parts(runs: list[dict[str, Any]], random: Any) -> None:
    queues = [_events(number, run) for number, run in enumerate(runs)]
    aggregator = MetricsAggregator()
    while queues := [queue for queue in queues if queue]:
        aggregator.add(random.choice(queues).pop(0))

    requests = [request for run in runs for request in run["requests"]]
    over = [run for run in runs if run["outcome"] is not None]
    tried = sum(request["attempts"] for request in requests)
    for kind in ("input", "output", "cache_read", "cache_write", "reasoning"):
        known = [n for r in requests if r["usage"] and (n := getattr(r["usage"], f"{kind}_tokens")) is not None]
        known += {"input": [3], "output": [1]}.get(kind, []) * tried
        assert value(aggregator, "sidestream_tokens_total", type=kind) == (sum(known) if known else None)
        if kind in ("input", "output"):
            assert count(aggregator, "gen_ai_client_token_usage", gen_ai_token_type=kind) == len(known)
            assert (value(aggregator, "gen_ai_client_token_usage", gen_ai_token_type=kind) or 0) == sum(known)
    costs = [r["cost_usd"] for r in requests if r["cost_usd"] is not None] + [0.25] * tried
    assert value(aggregator, "sidestream_cost_usd_total") == (pytest.approx(sum(costs)) if costs else None)
    unpriced = sum(r["usage"] is not None and r["cost_usd"] is None for r in requests)
    assert (value(aggregator, "sidestream_unpriced_requests_total") or 0) == unpriced
    assert (value(aggregator, "sidestream_requests_total") or 0) == len(requests)
    sent = [r["duration_seconds"] for r in requests if r["outcome"] != "skipped"]
    assert count(aggregator, DURATION) == len(sent)
    assert (value(aggregator, DURATION) or 0) == pytest.approx(sum(sent))
    assert (value(aggregator, "sidestream_runs_total") or 0) == len(over)
    assert (value(aggregator, "sidestream_run_requests") or 0) == sum(len(run["requests"]) for run in over)
    assert count(aggregator, "gen_ai_invoke_agent_duration_seconds") == len(over)
    assert (value(aggregator, "sidestream_runs_in_progress") or 0) == len(runs) - len(over)
    tools = [outcome for run in runs for outcome in run["tools"]]
    for outcome in set(tools):
        assert value(aggregator, "sidestream_tool_calls_total", outcome=outcome) == tools.count(outcome)
    assert count(aggregator, "gen_ai_execute_tool_duration_seconds") == len(tools) - tools.count("invalid")


def test_a_snapshot_taken_at_any_time_shows_each_event_wholly_or_not_at_all() -> None:
    aggregator = MetricsAggregator()
    done = threading.Event()

    def work() -> None:
        for number in range(2_000):
            run_id = f"r{number}"
            measured(run_of(started(run_id), asked(), answered(usage=usage(2, 1)), ended(), run_id=run_id), aggregator)
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    looks = 0
    while not done.is_set() or not looks:
        looks += 1
        snapshot = aggregator.snapshot()
        requests = sum(point.value for point in snapshot["sidestream_requests_total"])
        assert sum(sum(point.counts) for point in snapshot[DURATION]) == requests
        assert sum(point.value for point in snapshot["sidestream_tokens_total"]) == 3 * requests
        assert 0 <= requests - sum(point.value for point in snapshot["sidestream_runs_total"]) <= 1
    worker.join()


# --- labels ---------------------------------------------------------------------------------------------------------


def test_a_sub_agent_is_counted_apart_and_under_the_agent_that_asked_it() -> None:
    child = run_of(
        started("c", parent_run_id="p", parent_link="tool"), answered(usage=usage(5, 2)), ended(), run_id="c", agent="b"
    )
    parent = run_of(started("p"), answered(usage=usage(20, 4)), ended(), run_id="p", agent="a")
    aggregator = measured([*parent[:2], *child, *parent[2:]])
    assert by_labels(points(aggregator, "sidestream_runs_total", outcome="completed")) == {
        ("a", "", "completed"): 1,
        ("b", "a", "completed"): 1,
    }
    assert value(aggregator, "sidestream_tokens_total", agent="a", type="input") == 20
    assert value(aggregator, "sidestream_tokens_total", agent="b", type="input") == 5


def test_the_agent_that_asked_a_sub_agent_is_known_though_its_run_was_not_seen() -> None:
    """The event names the parent, so the label is known after a restart in the middle of the parent's run."""
    child = started("c", parent_run_id="p", parent_agent_name="asker", parent_link="tool")
    counted = by_labels(points(measured(run_of(child, ended(), run_id="c", agent="b")), "sidestream_runs_total"))
    assert counted["b", "asker", "completed"] == 1


def test_a_run_whose_start_was_lost_or_whose_parent_was_not_seen_does_not_pass_for_one_of_its_own() -> None:
    aggregator = measured(run_of(ended()))
    measured(run_of(started("c", parent_run_id="elsewhere"), ended(), run_id="c"), aggregator)
    assert {point.labels[1] for point in points(aggregator, "sidestream_runs_total")} == {"unknown"}
    assert value(aggregator, "sidestream_runs_total") == 2


@pytest.mark.parametrize(
    ("outcome", "exception", "error_type"),
    [
        ("completed", None, ""),
        ("error", "httpx.ReadTimeout", "httpx.ReadTimeout"),
        ("error", None, "error"),
        ("cancelled", "asyncio.CancelledError", "cancelled"),
        ("timed_out", "TimeoutError", "timed_out"),
        ("abandoned", None, "abandoned"),
    ],
)
def test_the_error_type_of_a_run(outcome: str, exception: str | None, error_type: str) -> None:
    aggregator = measured(run_of(started(), ended(outcome, exception_type=exception)))
    assert points(aggregator, "gen_ai_invoke_agent_duration_seconds")[0].labels == ("a", error_type)


@pytest.mark.parametrize(
    ("outcome", "exception", "error_type"),
    [
        ("ok", None, ""),
        ("retry", None, ""),
        ("error", "openai.RateLimitError", "openai.RateLimitError"),
        ("cancelled", "asyncio.CancelledError", "cancelled"),
        ("interrupted", None, "interrupted"),
    ],
)
def test_the_error_type_of_a_request(outcome: str, exception: str | None, error_type: str) -> None:
    aggregator = measured(run_of(started(), asked(), answered(outcome=outcome, exception_type=exception)))
    assert points(aggregator, DURATION)[0].labels == ("chat", "openai", "gpt-5", "", error_type)


@pytest.mark.parametrize(
    ("outcome", "exception", "error_type"),
    [
        ("ok", None, ""),
        ("deferred", None, ""),
        ("failed", "RuntimeError", "RuntimeError"),
        ("retry", "ModelRetry", "retry"),
        ("cancelled", None, "cancelled"),
    ],
)
def test_the_error_type_of_a_tool_call(outcome: Any, exception: str | None, error_type: str) -> None:
    end = ToolEnd(tool_name="look", outcome=outcome, duration_seconds=0.1, exception_type=exception)
    aggregator = measured(run_of(started(), end))
    assert points(aggregator, "gen_ai_execute_tool_duration_seconds")[0].labels == ("a", "look", error_type)


def test_a_tool_name_that_the_model_made_up_is_no_label() -> None:
    aggregator = measured(
        run_of(
            started(),
            ToolEnd(tool_name="rm -rf, please", outcome="unknown"),
            Retry(cause="unknown_tool", tool_name="rm -rf, please"),
            Retry(cause="validation_error", tool_name="look"),
            Retry(cause="no_output"),
        )
    )
    assert by_labels(points(aggregator, "sidestream_tool_calls_total")) == {("a", "unknown", "unknown"): 1}
    assert by_labels(points(aggregator, "sidestream_retries_total")) == {
        ("a", "unknown", "unknown_tool"): 1,
        ("a", "look", "validation_error"): 1,
        ("a", "", "no_output"): 1,
    }


def test_a_failed_request_has_the_provider_that_was_asked() -> None:
    aggregator = measured(run_of(started(), asked(), answered(outcome="error", provider=None)))
    assert value(aggregator, "sidestream_requests_total", provider="openai", outcome="error") == 1


def test_providers_have_the_conventions_names_in_the_conventions_metrics() -> None:
    aggregator = measured(run_of(started(), asked(), answered(provider="google-gla")))
    assert points(aggregator, DURATION)[0].labels[1] == "gcp.gemini"
    assert value(aggregator, "sidestream_requests_total", provider="google-gla") == 1


# --- cost ----------------------------------------------------------------------------------------------------------


def test_a_failed_attempt_of_a_fallback_counts_under_its_own_model() -> None:
    attempt = Attempt(model="small", provider="groq", outcome="error", usage=usage(7, 1), cost_usd=0.5)
    unpriced = Attempt(model="odd", outcome="rejected", usage=usage(1, 1))
    aggregator = measured(
        run_of(started(), answered(usage=usage(20, 4), cost_usd=2.0, failed_attempts=[attempt, unpriced]))
    )
    assert by_labels(points(aggregator, "sidestream_cost_usd_total")) == {
        ("a", "openai", "gpt-5"): 2.0,
        ("a", "groq", "small"): 0.5,
    }
    assert value(aggregator, "sidestream_tokens_total", model="small", type="input") == 7
    assert by_labels(points(aggregator, "sidestream_unpriced_requests_total")) == {("a", "", "odd"): 1}
    assert value(aggregator, "sidestream_requests_total") == 1


def test_what_the_cache_saved_is_the_difference_to_plain_input() -> None:
    read = usage(1_000_000, 0, cache_read_tokens=800_000)
    aggregator = measured(run_of(started(), answered(usage=read, cost_usd=0.35, cost_source="genai-prices")))
    saved = value(aggregator, "sidestream_cache_saved_usd_total", agent="a", provider="openai", model="gpt-5")
    assert saved is not None
    assert saved == pytest.approx(1.25 - 0.35)


@pytest.mark.parametrize(
    "facts",
    [
        {"cost_source": "provider"},
        {"cost_source": "genai-prices", "model": "no-such-model"},
        {"cost_source": "genai-prices", "usage": usage(10, 1)},
        {"cost_source": "genai-prices", "usage": usage(10, 1, cache_read_tokens=11)},
    ],
    ids=["reported by the provider", "not listed", "nothing cached", "counts that contradict each other"],
)
def test_a_saving_that_cannot_be_told_is_absent(facts: dict[str, Any]) -> None:
    facts = {"usage": usage(10, 1, cache_read_tokens=5), "cost_usd": 0.1, **facts}
    assert points(measured(run_of(started(), answered(**facts))), "sidestream_cache_saved_usd_total") == []


def test_a_cache_that_is_written_and_read_by_nobody_costs_more_than_it_saves() -> None:
    """Counters never decrease, so the cost of cache writes has a counter of its own."""
    written = usage(100_000, 0, cache_write_tokens=100_000)
    effect = cache_effect(written, model="claude-sonnet-4-5", provider="anthropic")
    assert effect is not None
    assert effect.saved == 0
    assert effect.spent == pytest.approx(0.375 - 0.3)


def test_writes_that_are_kept_for_an_hour_cost_more() -> None:
    written = usage(100_000, 0, cache_write_tokens=100_000, cache_write_1h_tokens=100_000)
    effect = cache_effect(written, model="claude-sonnet-4-5", provider="anthropic")
    assert effect is not None
    assert effect.spent == pytest.approx(0.6 - 0.3)


# --- unexpected input -----------------------------------------------------------------------------------------------


def test_outcomes_stand_at_zero_before_they_first_come_so_that_a_rate_sees_the_first_failure() -> None:
    aggregator = measured(run_of(started(), asked()))
    assert by_labels(points(aggregator, "sidestream_runs_total")) == {
        ("a", "", outcome): 0 for outcome in ("completed", "error", "cancelled", "timed_out", "abandoned")
    }
    assert by_labels(points(aggregator, "sidestream_requests_total")) == {
        ("a", "openai", "gpt-5", outcome): 0 for outcome in ("ok", "error")
    }
    measured(run_of(started("r2"), asked(), answered(outcome="error"), ended("error"), run_id="r2"), aggregator)
    assert value(aggregator, "sidestream_runs_total", outcome="error") == 1
    assert value(aggregator, "sidestream_requests_total", outcome="error") == 1


def test_what_may_come_takes_no_room_from_what_comes() -> None:
    aggregator = MetricsAggregator(max_values=4)
    for number in range(8):
        measured(run_of(started(), asked(), agent=f"a{number}"), aggregator)
    assert {point.labels[2] for point in points(aggregator, "sidestream_runs_total")} == {"completed", "error"}
    assert set(aggregator.store.overflow) == {"agent"}, "of runs in progress"
    measured(run_of(started(), ended("timed_out"), agent="a0"), aggregator)
    assert value(aggregator, "sidestream_runs_total", agent="a0", outcome="timed_out") == 1


# --- streaming -----------------------------------------------------------------------------------------------------


def chunk(*offsets_us: int, request: int = 1) -> LLMChunk:
    return LLMChunk(request=request, part=0, kind="text", offsets_us=list(offsets_us))


def test_gaps_are_those_between_the_deltas_of_a_request_across_its_chunks() -> None:
    events = run_of(
        *(started(), asked(), chunk(0, 500, 3_000), chunk(0, 2_000), answered(response_model="gpt-5-x")),
        offsets=[0, 0, 1.0, 1.010],
    )
    aggregator = measured(events)
    point = points(aggregator, GAPS)[0]
    assert point.labels == ("chat", "openai", "gpt-5", "gpt-5-x", "")
    assert point.value == pytest.approx(0.012)  # 0.5 + 2.5 + 7 + 2 ms
    bounds = [*BY_NAME[GAPS].buckets, float("inf")]
    assert {bound: n for bound, n in zip(bounds, point.counts, strict=True) if n} == {
        0.001: 1,
        0.002: 1,
        0.004: 1,
        0.008: 1,
    }
    assert [exemplar.value for exemplar in point.exemplars] == [0.007]


def test_time_that_the_program_keeps_a_stream_waiting_is_in_no_gap() -> None:
    """Ten deltas arrive at once, and the program needs 0.2 s for each: the gaps are the provider's few milliseconds."""
    end = answered(consumer_hold_seconds=1.8, provider_wait_seconds=0.012, gap_max_seconds=0.003)
    aggregator = measured(run_of(started(), asked(), chunk(*(200_000 * place for place in range(10))), end))
    [point] = points(aggregator, GAPS)
    assert point.value == pytest.approx(0.012)
    assert sum(point.counts) == 9
    bounds = [*BY_NAME[GAPS].buckets, float("inf")]
    assert {bound: n for bound, n in zip(bounds, point.counts, strict=True) if n} == {0.004: 9}
    assert [exemplar.value for exemplar in point.exemplars] == [0.003]


def test_gaps_of_a_program_that_keeps_nobody_waiting_stay_as_they_came() -> None:
    end = answered(consumer_hold_seconds=0.0, provider_wait_seconds=0.5, gap_max_seconds=0.3)
    assert value(measured(run_of(started(), asked(), chunk(0, 200_000, 500_000), end)), GAPS) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("end", "uncounted"),
    [
        ({"usage": usage(3, 1), "usage_source": "provider"}, None),
        ({"usage": usage(3, 1), "usage_source": "partial", "outcome": "interrupted"}, 1),
        ({"usage": None, "usage_source": "none", "outcome": "ok"}, 1),
        ({"usage": None, "usage_source": "none", "outcome": "error"}, None),
    ],
)
def test_requests_that_make_sums_lower_bounds_are_counted(end: dict[str, Any], uncounted: int | None) -> None:
    aggregator = measured(run_of(started(), asked(), answered(**end)))
    assert value(aggregator, "sidestream_uncounted_requests_total") == uncounted


def test_failures_of_a_tool_stand_at_zero_once_it_has_been_called() -> None:
    """A rate then includes the first increment."""
    ends = [ToolEnd(tool_name="look", outcome="ok"), ToolEnd(tool_name="made_up", outcome="unknown")]
    aggregator = measured(run_of(started(), *ends))
    assert by_labels(points(aggregator, "sidestream_tool_calls_total")) == {
        ("a", "look", "ok"): 1,
        ("a", "look", "failed"): 0,
        ("a", "unknown", "unknown"): 1,
    }


def test_start_of_counting_is_kept_with_the_counts() -> None:
    aggregator = measured(run_of(started(), ended()))
    other = MetricsAggregator()
    other.store.started += 1_000
    other.store.load_state(aggregator.store.dump_state())
    assert other.store.started == aggregator.store.started


def test_parts_streamed_beside_each_other_make_no_negative_gaps() -> None:
    events = run_of(started(), asked(), chunk(0, 50_000), chunk(0, 60_000), answered(), offsets=[0, 0, 1.0, 1.0])
    assert value(measured(events), GAPS) == pytest.approx(0.06)


def test_an_answer_in_one_piece_has_no_chunks() -> None:
    """Parts of the answer are recorded as chunks, although the answer was not streamed."""
    whole = LLMChunk(request=1, part=0, kind="text")
    aggregator = measured(run_of(started(), asked(streaming=False), whole, whole, answered(streaming=False)))
    for name in (GAPS, "gen_ai_client_operation_time_to_first_chunk_seconds", "sidestream_stream_stalls_total"):
        assert points(aggregator, name) == []


def test_the_times_of_a_stream() -> None:
    aggregator = measured(
        run_of(
            started(),
            asked(),
            answered(
                time_to_first_chunk_seconds=0.2,
                time_to_first_token_seconds={"thinking": 0.3, "text": 0.9},
                stalls=2,
                provider_wait_seconds=4.0,
                consumer_hold_seconds=0.5,
            ),
        )
    )
    assert value(aggregator, "gen_ai_client_operation_time_to_first_chunk_seconds") == 0.2
    assert by_labels(points(aggregator, "sidestream_time_to_first_token_seconds")) == {
        ("a", "gpt-5", "thinking"): 0.3,
        ("a", "gpt-5", "text"): 0.9,
    }
    assert value(aggregator, "sidestream_stream_stalls_total") == 2
    assert value(aggregator, "sidestream_provider_wait_seconds_total") == 4.0
    assert value(aggregator, "sidestream_consumer_hold_seconds_total") == 0.5


def test_a_request_whose_start_nobody_saw_is_counted_and_has_no_duration() -> None:
    """The stream was tapped after the request was sent, so the observed time would be too short."""
    measurer = measured(run_of(started(), asked(), answered(start_unknown=True, duration_seconds=0.01)))
    assert points(measurer, "gen_ai_client_operation_duration_seconds") == []
    assert value(measurer, "sidestream_requests_total") == 1


# --- exemplars -----------------------------------------------------------------------------------------------------


def test_exemplars_lead_to_the_span_of_the_run_the_request_or_the_tool_call() -> None:
    aggregator = measured(
        run_of(
            started(),
            asked(),
            answered(),
            ToolStart(tool_name="look", tool_call_id="c"),
            ToolEnd(tool_name="look", tool_call_id="c", outcome="ok", duration_seconds=0.1),
            ended(),
        )
    )
    for name, seq in (
        ("gen_ai_invoke_agent_duration_seconds", 0),
        (DURATION, 1),
        ("gen_ai_execute_tool_duration_seconds", 3),
    ):
        origin = points(aggregator, name)[0].exemplars[0].origin
        assert (origin.trace_id, origin.run_id) == ("0af7651916cd43dd8448eb211c80319c", "r1")
        assert origin.span_id == span_id_of("r1", seq)


def test_an_exemplar_stands_in_the_bucket_of_its_value() -> None:
    runs = (run_of(started(), ended(duration_seconds=seconds)) for seconds in (0.3, 0.35, 50.0, 10_000.0))
    aggregator = measured(event for run in runs for event in run)
    exemplars = points(aggregator, "gen_ai_invoke_agent_duration_seconds")[0].exemplars
    assert [exemplar.value for exemplar in exemplars] == [0.35, 50.0, 10_000.0]


@pytest.mark.parametrize("trace_id", [None, "", "x" * 32, "0af7", "\udc80" * 32])
def test_without_a_trace_an_exemplar_has_the_run_alone(trace_id: str | None) -> None:
    origin = _origin(run_of(started(trace_id=trace_id), ended()))
    assert (origin.trace_id, origin.span_id, origin.run_id) == ("", "", "r1")


def test_an_exemplar_leads_to_no_trace_that_is_not_kept() -> None:
    assert _origin(run_of(started(sampled=False), ended())).trace_id == ""
    assert _origin(run_of(started(sampled=True), ended())).trace_id


def _origin(events: list[StreamEvent]) -> Origin:
    return points(measured(events), "sidestream_runs_total")[0].exemplars[0].origin


# --- bounds --------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_names_make_no_more_series_than_the_cap_allows() -> None:
    aggregator = MetricsAggregator(max_values=20)
    for number in range(33_334):
        call = ToolEnd(tool_name=f"tool {number}", outcome="ok", duration_seconds=0.1)
        answer = answered(model=f"model {number}", usage=usage(1, 1))
        measured(run_of(call, answer, agent=f"agent {number}", run_id=f"r{number}"), aggregator)
    snapshot = aggregator.snapshot()
    assert max(len(found) for found in snapshot.values()) <= 20 * 10 + 10
    for name, found in snapshot.items():
        for place, label in enumerate(BY_NAME[name].labels):
            assert len({point.labels[place] for point in found}) <= 21, (name, label)
    assert value(aggregator, "sidestream_requests_total") == 33_334
    assert value(aggregator, "sidestream_requests_total", agent="other") == 33_334 - 20
    assert aggregator.store.overflow["agent"] > 0


def test_combinations_of_labels_are_bounded_too_and_the_small_ones_stay_apart() -> None:
    aggregator = MetricsAggregator(max_values=10)
    for agent in range(10):
        for model in range(10):
            for provider in range(10):
                facts: dict[str, Any] = {"model": f"m{model}", "provider": f"p{provider}"}
                measured(run_of(started(), answered(**facts), agent=f"a{agent}"), aggregator)
                measured(run_of(started(), answered(outcome="error", **facts), agent=f"a{agent}"), aggregator)
    found = points(aggregator, "sidestream_requests_total")
    assert len(found) <= 10 * 10 + 2
    assert sum(point.value for point in found) == 2_000
    rest = by_labels(points(aggregator, "sidestream_requests_total", agent="other"))
    assert set(rest) == {("other", "other", "other", "ok"), ("other", "other", "other", "error")}
    assert aggregator.store.overflow["*"] > 0


def test_labels_of_the_same_things_keep_the_same_values() -> None:
    """A panel can then join the agents of two metrics."""
    aggregator = MetricsAggregator(max_values=2)
    for agent in ("a", "b", "c"):
        measured(run_of(started(), ended(), agent=agent), aggregator)
    assert {p.labels[0] for p in points(aggregator, "sidestream_runs_total")} == {"a", "b", "other"}
    assert {p.labels[0] for p in points(aggregator, "gen_ai_invoke_agent_duration_seconds")} == {"a", "b", "other"}


def test_the_value_of_a_label_is_of_bounded_length_and_can_be_written() -> None:
    aggregator = measured(run_of(started(), ended(), agent="x" * 10_000))
    measured(run_of(started(), ended(), agent="lone \udc80"), aggregator)
    agents = [point.labels[0] for point in points(aggregator, "sidestream_runs_total", outcome="completed")]
    assert [len(agent) for agent in agents] == [120, len("lone \\udc80")]
    assert all(agent.encode() for agent in agents)


def test_runs_that_never_end_are_forgotten_beyond_a_bound_and_then_are_not_in_progress() -> None:
    aggregator = MetricsAggregator()
    for number in range(MAX_RUNS + 50):
        measured(run_of(started(f"r{number}"), run_id=f"r{number}"), aggregator)
    assert value(aggregator, "sidestream_runs_in_progress") == MAX_RUNS
    measured(run_of(ended(), run_id="r0"), aggregator)  # a forgotten run that ends after all
    assert value(aggregator, "sidestream_runs_in_progress") == MAX_RUNS
    assert value(aggregator, "sidestream_runs_total") == 1


def test_requests_and_tool_calls_whose_end_was_lost_are_forgotten_beyond_a_bound() -> None:
    lost = [asked(number) for number in range(1_000)]
    tools = [ToolStart(tool_name="look", tool_call_id=str(number)) for number in range(1_000)]
    aggregator = measured(run_of(started(), *lost, *tools))
    run = aggregator._runs["r1"]
    assert (len(run.requests), len(run.tools)) == (100, 100)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0])
def test_a_duration_that_cannot_be_is_left_out(wrong: float) -> None:
    aggregator = measured(run_of(started(), ended(duration_seconds=wrong), started(), ended(duration_seconds=2.0)))
    assert value(aggregator, "gen_ai_invoke_agent_duration_seconds") == 2.0
    assert value(aggregator, "sidestream_runs_total") == 2


def test_the_reasons_that_an_exporter_gives_for_its_losses_are_bounded_too() -> None:
    dropped = {f"row {number} of \udc80": 1 for number in range(1_000)}
    stats = ExporterStats(
        seen=1_000,
        exported=0,
        dropped=dropped,
        pending=0,
        failures=0,
        state="ok",
        busy_seconds=None,
        last_success=None,
        last_error=None,
    )
    books = SidecarStats(exporters={"odd": stats}, runs=0, runs_in_progress=0, unpriced_requests=0, recording_errors=0)
    found = by_labels(MetricsAggregator().snapshot(books)["sidestream_events_total"])
    assert len(found) == 22
    assert sum(found.values()) == 1_000
    assert all("".join(labels).encode() for labels in found)


# --- the table -----------------------------------------------------------------------------------------------------


def test_the_books_of_the_sidecar_make_all_metrics_that_are_fed_by_them() -> None:
    books = SidecarStats(
        exporters={
            "jsonl": ExporterStats(
                seen=17,
                exported=10,
                dropped={"overflow": 3, "error": 2},
                pending=2,
                failures=4,
                state="failing",
                busy_seconds=1.5,
                last_success=1_700_000_000.0,
                last_error="OSError",
            )
        },
        runs=3,
        runs_in_progress=1,
        unpriced_requests=0,
        recording_errors=5,
    )
    aggregator = MetricsAggregator(max_values=1)
    for agent in ("a", "b"):
        measured(run_of(started(), agent=agent), aggregator)
    found = aggregator.snapshot(books)
    assert {name for name in found if BY_NAME[name].source == "stats"} == {
        metric.name for metric in METRICS if metric.source == "stats"
    }
    assert by_labels(found["sidestream_events_total"]) == {
        ("jsonl", "exported", ""): 10,
        ("jsonl", "dropped", "overflow"): 3,
        ("jsonl", "dropped", "error"): 2,
    }
    assert by_labels(found["sidestream_queue_events"]) == {("jsonl",): 2}
    assert by_labels(found["sidestream_exporter_failures_total"]) == {("jsonl",): 4}
    assert by_labels(found["sidestream_exporter_failing"]) == {("jsonl",): 1}
    assert by_labels(found["sidestream_exporter_busy_seconds"]) == {("jsonl",): 1.5}
    assert by_labels(found["sidestream_exporter_last_success_timestamp_seconds"]) == {("jsonl",): 1_700_000_000.0}
    assert by_labels(found["sidestream_recording_errors_total"]) == {(): 5}
    assert by_labels(found["sidestream_label_overflow_total"]) == {("agent",): 1}
    assert list(by_labels(found["sidestream_build_info"]).values()) == [1]


def test_every_point_has_a_value_for_each_label_of_its_metric() -> None:
    aggregator = measured(run_of(started(), asked(), answered(usage=usage(1, 1), cost_usd=0.1), ended()))
    for name, found in aggregator.snapshot().items():
        assert all(len(point.labels) == len(BY_NAME[name].labels) for point in found), name


# --- tags ----------------------------------------------------------------------------------------------------------


def test_runs_tokens_and_cost_are_counted_by_the_tags_that_are_asked_for() -> None:
    """Tags are counted separately; a run without the tag has an empty value. Other tags are not labels."""
    paid = answered(usage=usage(10, 5, reasoning_tokens=3), cost_usd=0.25)
    aggregator = MetricsAggregator(label_tags=["tenant", "team"])
    for run, tags in (("a", {"tenant": "acme", "team": "red", "user": "u1"}), ("b", {"tenant": "acme"}), ("c", None)):
        measured(run_of(started(run, tags=tags), asked(), paid, ended(), run_id=run), aggregator)
    cost = by_labels(points(aggregator, "sidestream_tag_cost_usd_total"))
    assert cost == {("tenant", "acme"): 0.5, ("tenant", ""): 0.25, ("team", "red"): 0.25, ("team", ""): 0.5}
    tokens = by_labels(points(aggregator, "sidestream_tag_tokens_total"))
    assert {labels: n for labels, n in tokens.items() if labels[0] == "tenant"} == {
        ("tenant", "acme", "input"): 20,
        ("tenant", "acme", "output"): 10,
        ("tenant", "", "input"): 10,
        ("tenant", "", "output"): 5,
    }
    assert value(aggregator, "sidestream_tag_runs_total", tag="team", value="red", outcome="completed") == 1
    assert points(measured(run_of(started(tags={"tenant": "acme"}), ended())), "sidestream_tag_runs_total") == []


def test_values_of_tags_are_capped() -> None:
    aggregator = MetricsAggregator(max_values=2, label_tags=["tenant"])
    for number in range(5):
        run = f"r{number}"
        measured(run_of(started(run, tags={"tenant": f"t{number}"}), ended(), run_id=run), aggregator)
    runs = by_labels(points(aggregator, "sidestream_tag_runs_total"))
    assert runs == {
        ("tenant", "t0", "completed"): 1,
        ("tenant", "t1", "completed"): 1,
        ("tenant", "other", "completed"): 3,
    }
