"""Spans of a run: attributes of the GenAI conventions and under `sidestream.*`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from sidestream.errors import ConfigurationError
from sidestream.events import (
    Attempt,
    Custom,
    Error,
    FinalResult,
    LLMChunk,
    Payload,
    Retry,
    StreamEvent,
    ToolEnd,
    ToolStart,
    Usage,
)
from sidestream.events.ids import span_id_of, trace_id_of
from sidestream.recording.content import ContentPolicy, apply_policy
from sidestream_exporters import OTLPExporter
from tests.support.otlp_receiver import attributes, http_receiver
from tests.support.run_events import BEGAN, answer, ask, end, event_log, start

pytestmark = pytest.mark.scenario_02

OK, ERROR = 0, 2
INTERNAL, CLIENT = 1, 3


def exported(events: Sequence[StreamEvent], **options: Any) -> list[Any]:
    """Received spans for `events`, after the content policy of the pipeline."""
    with http_receiver() as received:
        exporter = OTLPExporter(received.url, **options)
        wanted = [event for event in events if event.event_type not in exporter.skip]
        assert not exporter.export([apply_policy(event, exporter.content, None) for event in wanted])
        exporter.close()
        return received.spans


def spans_of(*payloads: Payload | tuple[float, Payload], **options: Any) -> list[Any]:
    return exported(event_log("run-1", *payloads), **options)


def one_chat(*between: Payload, ask_: Any = None, **facts: Any) -> Any:
    (span,) = spans_of(start("run-1"), ask_ or ask(), *between, answer(**facts))
    return span


def one_tool(outcome: str = "ok", **facts: Any) -> Any:
    begun = ToolStart(tool_name="look", tool_call_id="call-1", args={"q": "moon"}, attempt=2)
    over = ToolEnd(
        **{"tool_name": "look", "tool_call_id": "call-1", "outcome": outcome, "duration_seconds": 0.2, **facts}
    )
    (span,) = spans_of(start("run-1"), begun, over)
    return span


def one_run(*between: Payload, begun: Any = None, **facts: Any) -> Any:
    *_, span = spans_of(begun or start("run-1"), *between, end(**facts))
    return span


def events_of(span: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, attributes(event)) for event in span.events]


def unix_ns(seconds: float) -> int:
    return int((BEGAN + timedelta(seconds=seconds)).timestamp() * 1e9)


class TestTheTree:
    def test_a_run_its_request_and_its_tool(self) -> None:
        tool = ToolStart(tool_name="look"), ToolEnd(tool_name="look", outcome="ok", duration_seconds=0.1)
        chat, executed, run = spans_of(start("run-1"), ask(), answer(), *tool, end())
        assert [chat.name, executed.name, run.name] == ["chat gpt-5-mini", "execute_tool look", "invoke_agent support"]
        assert [chat.kind, executed.kind, run.kind] == [CLIENT, INTERNAL, INTERNAL]
        assert chat.parent_span_id == executed.parent_span_id == run.span_id
        assert run.parent_span_id == b""
        assert {span.trace_id.hex() for span in (chat, executed, run)} == {trace_id_of("run-1")}

    def test_a_span_is_named_by_the_event_that_begins_it(self) -> None:
        chat, run = spans_of(start("run-1"), ask(), answer(), end())
        assert run.span_id.hex() == span_id_of("run-1", 0)
        assert chat.span_id.hex() == span_id_of("run-1", 1)

    def test_the_ids_in_the_log_are_those_of_the_spans(self) -> None:
        begun = start("run-1", trace_id="ab" * 16, parent_span_id="cd" * 8)
        run = one_run(begun=begun)
        assert run.trace_id.hex() == "ab" * 16
        assert run.parent_span_id.hex() == "cd" * 8

    def test_a_sub_agent_hangs_from_the_tool_that_started_it(self) -> None:
        parent = event_log(
            "parent",
            start("parent"),
            ToolStart(tool_name="ask", tool_call_id="call-1"),
            ToolEnd(tool_name="ask", tool_call_id="call-1", outcome="ok", duration_seconds=1.0),
            end(),
        )
        links = {"parent_run_id": "parent", "parent_tool_call_id": "call-1", "root_run_id": "parent"}
        child = event_log("child", start("child", **links), end(), agent="helper")
        spans = {span.name: span for span in exported([*parent[:2], *child, *parent[2:]])}
        assert spans["invoke_agent helper"].parent_span_id == spans["execute_tool ask"].span_id
        assert spans["invoke_agent helper"].trace_id == spans["invoke_agent support"].trace_id

    def test_a_sub_agent_of_no_known_tool_hangs_from_the_run(self) -> None:
        links = {"parent_run_id": "parent", "parent_link": "output", "root_run_id": "parent"}
        (span,) = exported(event_log("child", start("child", **links), end()))
        assert span.parent_span_id.hex() == span_id_of("parent", 0)
        assert span.trace_id.hex() == trace_id_of("parent")

    def test_a_child_may_end_after_its_parent(self) -> None:
        links = {"parent_run_id": "parent", "root_run_id": "parent"}
        child = event_log("child", start("child", **links), end(outcome="cancelled", success=False), agent="helper")
        parent = event_log("parent", start("parent"), end(outcome="cancelled", success=False))
        first, second = exported([parent[0], child[0], parent[1], child[1]])
        assert second.parent_span_id == first.span_id

    def test_two_calls_with_one_id_are_two_spans(self) -> None:
        """Some models restart the numbers of tool calls with each answer, or omit them."""
        begun, over = ToolStart(tool_name="look"), ToolEnd(tool_name="look", outcome="ok")
        first, second = spans_of(start("run-1"), begun, begun, over, over)
        assert [first.span_id.hex(), second.span_id.hex()] == [span_id_of("run-1", 1), span_id_of("run-1", 2)]

    @pytest.mark.parametrize("damaged", ["", "xyz", "0" * 32, "ab" * 15, "-" + "a" * 31, "é" * 32])
    def test_an_id_that_is_none_is_derived_instead(self, damaged: str) -> None:
        run = one_run(begun=start("run-1", trace_id=damaged, parent_span_id=damaged))
        assert run.trace_id.hex() == trace_id_of("run-1")
        assert run.parent_span_id == b""


class TestWhatIsMissing:
    def test_an_end_without_a_beginning_is_a_span_all_the_same(self) -> None:
        events = event_log("run-1", start("run-1"), ask(), answer(duration_seconds=0.4), end())
        (chat,) = exported(events[2:3])
        assert chat.end_time_unix_nano == unix_ns(1.0)
        assert chat.start_time_unix_nano == unix_ns(0.6)

    def test_a_run_without_a_beginning(self) -> None:
        (run,) = exported(event_log("run-1", start("run-1"), end(duration_seconds=0.5))[1:])
        assert run.span_id.hex() == span_id_of("run-1", 0)
        assert run.start_time_unix_nano == unix_ns(0)

    def test_what_never_ends_makes_no_span(self) -> None:
        assert spans_of(start("run-1"), ask(), ToolStart(tool_name="look")) == []

    def test_a_tool_that_never_ran_has_no_duration(self) -> None:
        span = one_tool("unknown", duration_seconds=None)
        assert span.end_time_unix_nano - span.start_time_unix_nano == 500_000_000
        assert attributes(span)["sidestream.outcome"] == "unknown"


class TestTimes:
    @pytest.mark.scenario_21
    def test_durations_survive_a_step_of_the_clock(self) -> None:
        """After the wall clock is set back by an hour, all times follow the run's monotonic clock."""
        events = event_log("run-1", start("run-1"), ask(), answer(duration_seconds=0.5), end(duration_seconds=1.5))
        stepped = [msgspec.structs.replace(each, timestamp=each.timestamp - timedelta(hours=1)) for each in events[1:]]
        chat, run = exported([events[0], *stepped])
        assert (chat.start_time_unix_nano, chat.end_time_unix_nano) == (unix_ns(0.5), unix_ns(1.0))
        assert (run.start_time_unix_nano, run.end_time_unix_nano) == (unix_ns(0), unix_ns(1.5))

    def test_a_cancelled_request_ends_when_it_was_cancelled(self) -> None:
        """The end is the time of the cancellation, not of the `llm_end` event, which follows when the run unwinds."""
        chat = one_chat(outcome="cancelled", duration_seconds=0.1)
        assert chat.end_time_unix_nano == unix_ns(0.6)


class TestAChat:
    def test_by_the_conventions(self) -> None:
        usage = Usage(
            input_tokens=100, output_tokens=20, cache_read_tokens=60, cache_write_tokens=5, reasoning_tokens=8
        )
        span = one_chat(
            ask_=ask(
                settings={"temperature": 0.5, "max_tokens": 99, "top_p": 0.9, "service_tier": "flex"},
                output_mode="native",
            ),
            usage=usage,
            usage_source="provider",
            response_id="resp-1",
            response_model="gpt-5-mini-2026",
            finish_reason="stop",
            time_to_first_chunk_seconds=0.25,
            server_address="api.openai.com",
            server_port=443,
        )
        got = attributes(span)
        expected = {
            "gen_ai.output.type": "json",
            "server.address": "api.openai.com",
            "server.port": 443,
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5-mini",
            "gen_ai.request.stream": True,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.max_tokens": 99,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.response.id": "resp-1",
            "gen_ai.response.model": "gpt-5-mini-2026",
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.response.time_to_first_chunk": 0.25,
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.cache_read.input_tokens": 60,
            "gen_ai.usage.cache_creation.input_tokens": 5,
            "gen_ai.usage.reasoning.output_tokens": 8,
        }
        ours = {name: value for name, value in got.items() if name.startswith(("gen_ai.", "error", "server"))}
        assert ours == expected
        assert span.status.code == OK

    def test_ours(self) -> None:
        got = attributes(
            one_chat(
                cost_usd=0.002,
                cost_source="genai-prices",
                price_version="1.2",
                chunks=7,
                time_to_first_token_seconds={"thinking": 0.1, "text": 0.3},
                provider_wait_seconds=0.2,
                consumer_hold_seconds=0.1,
                gap_max_seconds=0.05,
                stalls=0,
            )
        )
        assert {name: value for name, value in got.items() if name.startswith("sidestream.")} == {
            "sidestream.outcome": "ok",
            "sidestream.usage_source": "none",
            "sidestream.cost.usd": 0.002,
            "sidestream.cost.source": "genai-prices",
            "sidestream.cost.price_version": "1.2",
            "sidestream.request": 1,
            "sidestream.chunks": 7,
            "sidestream.time_to_first_token.thinking": 0.1,
            "sidestream.time_to_first_token.text": 0.3,
            "sidestream.provider_wait": 0.2,
            "sidestream.consumer_hold": 0.1,
            "sidestream.gap_max": 0.05,
            "sidestream.stalls": 0,
            "sidestream.run_id": "run-1",
            "sidestream.sampling": "head",
        }

    def test_a_run_has_the_description_of_its_agent(self) -> None:
        got = attributes(one_run(begun=start("run-1", description="greets")))
        assert got["gen_ai.agent.description"] == "greets"

    @pytest.mark.parametrize(
        "count", ["unpriced_requests", "partial_requests", "unmeasured_requests", "incomplete_sub_agents"]
    )
    def test_what_is_missing_from_a_runs_totals_is_counted(self, count: str) -> None:
        assert attributes(one_run(**{count: 2}))[f"sidestream.{count}"] == 2

    def test_absent_is_not_zero(self) -> None:
        got = attributes(one_chat(unpriced=True))
        assert not [name for name in got if "usage." in name or name.startswith("sidestream.cost.usd")]
        assert got["sidestream.cost.unpriced"] is True

    def test_stop_sequences_are_content(self) -> None:
        asked = ask(stop_sequences=["END", "STOP"])
        spans = {
            content: spans_of(start("run-1"), asked, answer(), content=content)[0]
            for content in ("none", "metadata", "full")
        }
        got = {content: attributes(span).get("gen_ai.request.stop_sequences") for content, span in spans.items()}
        assert got == {"none": None, "metadata": None, "full": ["END", "STOP"]}

    def test_counts_by_modality_have_the_conventions_names(self) -> None:
        kinds = ("text", "image")
        counts: dict[str, float] = {f"{way}_{kind}_tokens": 7 for kind in kinds for way in ("input", "output")}
        got = attributes(one_chat(usage=Usage(input_tokens=20, output_tokens=20, counts=counts)))
        assert [got[f"gen_ai.usage.{kind}.{way}_tokens"] for kind in kinds for way in ("input", "output")] == [7] * 4

    def test_not_streaming_is_not_said(self) -> None:
        assert "gen_ai.request.stream" not in attributes(one_chat(streaming=False))

    def test_the_providers_name_is_the_conventions(self) -> None:
        assert attributes(one_chat(provider="bedrock"))["gen_ai.provider.name"] == "aws.bedrock"

    @pytest.mark.parametrize(
        ("outcome", "exception", "kind"),
        [
            ("error", "httpx.ReadTimeout", "httpx.ReadTimeout"),
            ("error", None, "error"),
        ],
    )
    def test_a_failure_says_what_it_was(self, outcome: Any, exception: str | None, kind: str) -> None:
        span = one_chat(outcome=outcome, exception_type=exception)
        assert span.status.code == ERROR
        assert attributes(span)["error.type"] == kind
        assert attributes(span)["sidestream.outcome"] == outcome

    @pytest.mark.parametrize("outcome", ["ok", "skipped", "retry", "cancelled", "interrupted"])
    def test_what_is_no_failure_of_the_model_has_no_error(self, outcome: Any) -> None:
        span = one_chat(outcome=outcome, exception_type="ValueError")
        assert span.status.code == OK
        assert "error.type" not in attributes(span)
        assert attributes(span)["sidestream.outcome"] == outcome

    def test_models_that_a_fallback_moved_on_from(self) -> None:
        tried = Attempt(model="big", provider="openai", outcome="error", duration_seconds=0.1, cost_usd=0.5)
        span = one_chat(failed_attempts=[tried])
        assert attributes(span)["sidestream.attempts"] == 2
        assert events_of(span) == [
            (
                "sidestream.failed_attempt",
                {
                    "gen_ai.request.model": "big",
                    "gen_ai.provider.name": "openai",
                    "sidestream.outcome": "error",
                    "sidestream.cost.usd": 0.5,
                },
            )
        ]


class TestATool:
    def test_by_the_conventions(self) -> None:
        span = one_tool()
        assert attributes(span) == {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "look",
            "gen_ai.tool.call.id": "call-1",
            "gen_ai.tool.type": "function",
            "gen_ai.agent.name": "support",
            "sidestream.outcome": "ok",
            "sidestream.attempt": 2,
            "sidestream.run_id": "run-1",
            "sidestream.sampling": "head",
        }

    def test_a_failure_says_what_it_was(self) -> None:
        span = one_tool("failed", exception_type="my.Error")
        assert span.status.code == ERROR
        assert attributes(span)["error.type"] == "my.Error"
        assert events_of(span) == [("exception", {"exception.type": "my.Error"})]

    @pytest.mark.parametrize("outcome", ["deferred", "denied", "skipped", "retry", "invalid", "unknown", "cancelled"])
    def test_what_is_no_failure_of_the_tool_has_no_error(self, outcome: str) -> None:
        span = one_tool(outcome, exception_type="my.Error")
        assert span.status.code == OK
        assert "error.type" not in attributes(span)
        assert attributes(span)["sidestream.outcome"] == outcome

    def test_it_has_the_conversation_of_its_run(self) -> None:
        begun = start("run-1", conversation_id="c-42")
        tool = ToolStart(tool_name="look"), ToolEnd(tool_name="look", outcome="ok", duration_seconds=0.1)
        (span,) = spans_of(begun, *tool)
        assert attributes(span)["gen_ai.conversation.id"] == "c-42"


class TestARun:
    def test_by_the_conventions_and_ours(self) -> None:
        run = one_run(
            begun=start("run-1", conversation_id="c-7", mode="graph", tags={"tenant": "acme"}),
            usage=Usage(input_tokens=10, output_tokens=2),
            cost_usd=0.1,
            cost_usd_with_children=0.3,
            total_iterations=2,
            tool_calls=1,
            retries=0,
            sub_agents=1,
        )
        assert attributes(run) == {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "support",
            "gen_ai.conversation.id": "c-7",
            "gen_ai.request.model": "gpt-5-mini",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 2,
            "sidestream.outcome": "completed",
            "sidestream.cost.usd": 0.1,
            "sidestream.cost.usd_with_children": 0.3,
            "sidestream.requests": 2,
            "sidestream.tool_calls": 1,
            "sidestream.retries": 0,
            "sidestream.sub_agents": 1,
            "sidestream.mode": "graph",
            "sidestream.tag.tenant": "acme",
            "sidestream.run_id": "run-1",
            "sidestream.sampling": "head",
        }
        assert run.status.code == OK

    @pytest.mark.parametrize("outcome", ["cancelled", "abandoned"])
    def test_one_that_its_caller_left_says_so_and_is_no_error(self, outcome: Any) -> None:
        """A closed browser tab must not count as an error in a back end's error rate."""
        run = one_run(outcome=outcome, success=False, exception_type="CancelledError")
        assert run.status.code == OK
        assert "error.type" not in attributes(run)
        assert attributes(run)["sidestream.outcome"] == outcome

    def test_one_whose_time_was_over_is_an_error(self) -> None:
        run = one_run(outcome="timed_out", success=False, exception_type="TimeoutError")
        assert run.status.code == ERROR
        assert attributes(run)["error.type"] == attributes(run)["sidestream.outcome"] == "timed_out"

    def test_an_error_has_its_type(self) -> None:
        run = one_run(outcome="error", success=False, exception_type="my.Error")
        assert attributes(run)["error.type"] == "my.Error"

    def test_retries_errors_and_the_applications_own_events(self) -> None:
        run = one_run(
            Retry(cause="validation_error", attempt=1, max_attempts=3, tool_name="look"),
            Error(exception_type="my.Error", where="output"),
            Error(exception_type="my.Error", where="tool", tool_name="look"),
            Custom(name="checkpoint"),
            FinalResult(output_type="Answer"),
        )
        assert events_of(run) == [
            (
                "sidestream.retry",
                {
                    "sidestream.cause": "validation_error",
                    "sidestream.attempt": 1,
                    "sidestream.max_attempts": 3,
                    "gen_ai.tool.name": "look",
                },
            ),
            ("exception", {"exception.type": "my.Error", "sidestream.where": "output"}),
            ("sidestream.custom", {"sidestream.name": "checkpoint"}),
        ]
        assert attributes(run)["sidestream.output_type"] == "Answer"

    def test_its_events_are_bounded_and_the_rest_counted(self) -> None:
        run = one_run(*[Custom(name=str(number)) for number in range(200)])
        assert len(run.events) == 128
        assert run.dropped_events_count == 72

    def test_without_a_name(self) -> None:
        (run,) = exported(event_log("run-1", start("run-1"), end(), agent=None))
        assert run.name == "invoke_agent"
        assert "gen_ai.agent.name" not in attributes(run)


class TestContent:
    """Each message is exported once, on the first span that can hold it."""

    CONVERSATION = (
        start("run-1", prompt="how far is the moon?"),
        ask(instructions="be brief"),
        LLMChunk(request=1, part=0, kind="thinking", text="let me "),
        LLMChunk(request=1, part=0, kind="thinking", text="see"),
        LLMChunk(request=1, part=1, kind="tool_call", tool_name="look", tool_call_id="c1", text='{"q":"moon"}'),
        answer(finish_reason="tool_call"),
        ToolStart(tool_name="look", tool_call_id="c1", args={"q": "moon"}),
        ToolEnd(tool_name="look", tool_call_id="c1", outcome="ok", duration_seconds=0.1, result=["far", 1]),
        Retry(cause="model_retry", message="shorter"),
        ask(2),
        LLMChunk(request=2, part=0, kind="text", text="far"),
        answer(2, finish_reason="stop"),
        end(),
    )

    def test_none_unless_it_is_asked_for(self) -> None:
        for span in spans_of(*self.CONVERSATION):
            assert "moon" not in str(span)

    def test_each_message_once(self) -> None:
        first, tool, second, _ = (attributes(span) for span in spans_of(*self.CONVERSATION, content="full"))
        assert json.loads(first["gen_ai.system_instructions"]) == [{"type": "text", "content": "be brief"}]
        assert json.loads(first["gen_ai.input.messages"]) == [
            {"role": "user", "parts": [{"type": "text", "content": "how far is the moon?"}]}
        ]
        assert json.loads(first["gen_ai.output.messages"]) == [
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "let me see"},
                    {"type": "tool_call", "id": "c1", "name": "look", "arguments": '{"q":"moon"}'},
                ],
                "finish_reason": "tool_call",
            }
        ]
        assert json.loads(tool["gen_ai.tool.call.arguments"]) == {"q": "moon"}
        assert json.loads(tool["gen_ai.tool.call.result"]) == ["far", 1]
        assert "gen_ai.system_instructions" not in second
        assert json.loads(second["gen_ai.input.messages"]) == [
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": ["far", 1]}]},
            {"role": "user", "parts": [{"type": "text", "content": "shorter"}]},
        ]
        assert json.loads(second["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "far"}]
        assert not [name for name in tool if "messages" in name]

    def test_what_a_providers_own_tool_returned_is_no_message_to_the_model(self) -> None:
        """The result is part of the provider's answer; the application never sends it."""
        search = (
            ToolStart(tool_name="web_search", tool_call_id="s1", executed_by="provider"),
            ToolEnd(tool_name="web_search", tool_call_id="s1", outcome="ok", result="384,400 km"),
        )
        events = start("run-1"), ask(), *search, answer(), ask(2), answer(2), end()
        tool, _, second, _ = (attributes(span) for span in spans_of(*events, content="full"))
        assert (tool["gen_ai.tool.type"], tool["gen_ai.tool.call.result"]) == ("extension", "384,400 km")
        assert "gen_ai.input.messages" not in second

    def test_the_runs_own_span_has_what_went_in_and_what_came_out(self) -> None:
        """Back ends list a trace with the input and output of its root span."""
        result = FinalResult(output_type="str", output="far")
        *_, span = spans_of(*self.CONVERSATION[:-1], result, end(), content="full")
        run = attributes(span)
        assert json.loads(run["gen_ai.system_instructions"]) == [{"type": "text", "content": "be brief"}]
        assert json.loads(run["gen_ai.input.messages"]) == [
            {"role": "user", "parts": [{"type": "text", "content": "how far is the moon?"}]}
        ]
        assert json.loads(run["gen_ai.output.messages"]) == [
            {"role": "assistant", "parts": [{"type": "text", "content": "far"}], "finish_reason": "stop"}
        ]

    def test_what_was_sent_is_told_by_the_request_that_sent_it_first(self) -> None:
        """Message history without a run in the log is exported with the first request, as are tool definitions."""

        def message(kind: str, *parts: dict[str, Any]) -> dict[str, Any]:
            return {"kind": kind, "parts": list(parts)}

        told = {"part_kind": "user-prompt", "as_in": "agent_start"}
        result = {"part_kind": "tool-return", "tool_call_id": "c1", "tool_name": "look"}
        history = [
            message("request", {"part_kind": "system-prompt", "content": "be brief"}),
            message("request", {"part_kind": "user-prompt", "content": "and the sun?"}),
            message("response", {"part_kind": "text", "content": "farther"}),
        ]
        tools = [{"name": "look", "kind": "function", "description": "Looks it up.", "parameters": {"type": "object"}}]
        first, tool, second, run = (
            attributes(span)
            for span in spans_of(
                start("run-1", prompt="how far is the moon?"),
                ask(instructions="be brief", sent=[*history, message("request", told)], tools=tools),
                answer(),
                ToolStart(tool_name="look", tool_call_id="c1"),
                ToolEnd(tool_name="look", tool_call_id="c1", outcome="ok", result=["far", 1]),
                ask(2, sent=[message("request", {**result, "as_in": "tool_end"}, {**result, "content": "again"})]),
                answer(2),
                end(),
                content="full",
            )
        )
        assert [each["role"] for each in json.loads(first["gen_ai.input.messages"])] == ["user", "assistant", "user"]
        assert json.loads(first["gen_ai.input.messages"])[-1]["parts"][0]["content"] == "how far is the moon?"
        assert [each["parts"][0]["response"] for each in json.loads(second["gen_ai.input.messages"])] == [
            ["far", 1],
            "again",
        ]
        definition = [{"type": "function", **{name: value for name, value in tools[0].items() if name != "kind"}}]
        assert json.loads(first["gen_ai.tool.definitions"]) == json.loads(run["gen_ai.tool.definitions"]) == definition
        assert "gen_ai.tool.definitions" not in second | tool
        assert tool["gen_ai.tool.description"] == "Looks it up."

    @pytest.mark.parametrize("mode", ["SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT", "true", "NO_CONTENT", "false", ""])
    def test_the_conventions_variable(self, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", mode)
        first = spans_of(*self.CONVERSATION)[0]
        on_span = "gen_ai.input.messages" in attributes(first)
        in_event = any("gen_ai.input.messages" in told for _, told in events_of(first))
        assert on_span == (mode in ("SPAN_ONLY", "SPAN_AND_EVENT", "true"))
        assert in_event == (mode in ("EVENT_ONLY", "SPAN_AND_EVENT"))

    def test_the_argument_beats_the_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
        assert "moon" not in str(spans_of(*self.CONVERSATION, content="none"))

    def test_cut_content_is_cut_once(self) -> None:
        first = attributes(spans_of(*self.CONVERSATION, content="truncated(5)")[0])
        thought = json.loads(first["gen_ai.output.messages"])[0]["parts"][0]["content"]
        assert thought == "let m…"

    def test_metadata_is_the_length_of_the_whole(self) -> None:
        first = attributes(spans_of(*self.CONVERSATION, content="metadata")[0])
        thought = json.loads(first["gen_ai.output.messages"])[0]["parts"][0]["content"]
        assert thought == {"type": "str", "length": 10}

    def test_the_text_of_an_error_is_content(self) -> None:
        facts: dict[str, Any] = {"outcome": "error", "exception_type": "my.Error", "error": "no such user: ann"}
        assert "ann" not in str(one_chat(**facts))
        *_, told = spans_of(start("run-1"), ask(), answer(**facts), content="full")
        assert told.status.message == "no such user: ann"
        assert events_of(told) == [
            ("exception", {"exception.type": "my.Error", "exception.message": "no such user: ann"})
        ]

    def test_a_run_grows_with_its_length_and_not_with_its_square(self) -> None:
        def size(steps: int) -> int:
            turns: list[Payload] = []
            for step in range(1, steps + 1):
                turns += [ask(step), answer(step)]
                turns += [ToolStart(tool_name="look"), ToolEnd(tool_name="look", outcome="ok", result="x" * 2_000)]
            spans = spans_of(start("run-1", prompt="go"), *turns, end(), content="full")
            return sum(span.ByteSize() for span in spans)

        assert size(80) < 4.5 * size(20)

    def test_what_json_cannot_hold(self) -> None:
        cyclic: list[Any] = []
        cyclic.append(cyclic)
        for odd in ("\ud800", {"a": "\ud800"}, cyclic, b"\xff", {1: 2}, 10**40, "x" * 2_000_000):
            events = [start("run-1", prompt=odd), ask(), answer(), ToolStart(tool_name="t", args=odd)]
            spans = spans_of(*events, ToolEnd(tool_name="t", outcome="ok", result=odd), content="full")
            assert [span.name for span in spans] == ["chat gpt-5-mini", "execute_tool t"]
            assert all("gen_ai.tool.call.result" in attributes(span) for span in spans[1:])


class TestFigures:
    def test_what_is_a_lower_bound_is_marked(self) -> None:
        cut_off = attributes(
            one_chat(outcome="interrupted", usage=Usage(input_tokens=5), usage_source="partial", cost_usd=0.1)
        )
        assert cut_off["sidestream.usage.lower_bound"] is True
        assert cut_off["sidestream.cost.lower_bound"] is True
        facts = {"cost_usd": 0.1, "usage": Usage(input_tokens=5), "cost_usd_with_children": 0.2}
        run = attributes(one_run(**facts, incomplete_sub_agents=1))
        assert run["sidestream.cost.lower_bound_with_children"] is True
        assert "sidestream.cost.lower_bound" not in run

    def test_what_is_whole_or_absent_is_not_marked(self) -> None:
        for span in (one_chat(), one_run(unmeasured_requests=1, cost_usd=None, usage=None)):
            assert not [name for name in attributes(span) if "lower_bound" in name]

    def test_audio_images_and_other_counts(self) -> None:
        counts: dict[str, int | float] = {"output_image_tokens": 7, "web_searches": 2}
        usage = Usage(input_audio_tokens=3, output_audio_tokens=4, counts=counts)
        told = attributes(one_chat(usage=usage, usage_source="provider"))
        assert told["gen_ai.usage.audio.input_tokens"] == 3
        assert told["gen_ai.usage.audio.output_tokens"] == 4
        assert told["gen_ai.usage.image.output_tokens"] == 7
        assert told["sidestream.usage.web_searches"] == 2


def test_spans_tell_the_version_of_their_conventions() -> None:
    with http_receiver() as received:
        exporter = OTLPExporter(received.url)
        exporter.export(event_log("run-1", start("run-1"), end()))
        exporter.close()
    (resource,) = received.requests[0].resource_spans
    (scope,) = resource.scope_spans
    assert {resource.schema_url, scope.schema_url} == {"https://opentelemetry.io/schemas/1.41.0"}


def test_values_that_protobuf_cannot_hold_do_not_cost_the_span() -> None:
    begun = start("run-1", conversation_id="\udc80", tags={"a\udc80": "b"})
    odd = ask(settings={"seed": 2**70, "temperature": float("nan")})
    chat, run = spans_of(begun, odd, answer(response_id="\udfff", usage=Usage(input_tokens=2**64)), end())
    assert attributes(chat)["gen_ai.request.seed"] == str(2**70)
    assert attributes(chat)["gen_ai.response.id"] == "\\udfff"
    assert attributes(run)["sidestream.tag.a\\udc80"] == "b"


def test_a_policy_is_a_policy() -> None:
    assert OTLPExporter(content=ContentPolicy("metadata")).skip == frozenset()
    assert OTLPExporter().skip == {"llm_chunk"}


def test_a_request_stays_within_what_a_grpc_server_takes() -> None:
    """For any batch, unless a single span exceeds the limit."""
    turns: list[Payload] = []
    for _ in range(12):
        turns += [ToolStart(tool_name="look"), ToolEnd(tool_name="look", outcome="ok", result="x" * 900_000)]
    with http_receiver() as received:
        exporter = OTLPExporter(received.url, content="full")
        assert exporter.export(event_log("run-1", start("run-1"), *turns, end())) is None
        exporter.close()
    assert len(received.spans) == 13
    assert len(received.bodies) == 4
    assert all(len(body) < 4 * 2**20 for body in received.bodies)


def test_many_spans_go_in_several_requests() -> None:
    turns = [ToolStart(tool_name="look"), ToolEnd(tool_name="look", outcome="ok")] * 450
    with http_receiver() as received:
        exporter = OTLPExporter(received.url)
        assert exporter.export(event_log("run-1", start("run-1"), *turns)) is None
        exporter.close()
    assert len({span.span_id for span in received.spans}) == len(received.spans) == 450
    assert len(received.bodies) == 3


@pytest.mark.parametrize(("which", "tokens"), [("own", 10), ("total", 25), ("none", None)])
def test_the_tokens_on_the_span_of_a_run_are_those_asked_for(which: str, tokens: int | None) -> None:
    """Some back ends sum over the spans of a trace, others read the root span only."""
    facts: dict[str, Any] = {"usage": Usage(input_tokens=10), "usage_with_children": Usage(input_tokens=25)}
    *_, run = spans_of(start("run-1"), end(**facts), run_usage=which)
    assert attributes(run).get("gen_ai.usage.input_tokens") == tokens


def test_a_run_without_sub_agents_has_its_own_tokens_as_the_total() -> None:
    *_, run = spans_of(start("run-1"), end(usage=Usage(input_tokens=10)), run_usage="total")
    assert attributes(run)["gen_ai.usage.input_tokens"] == 10


def test_another_word_for_the_tokens_of_a_run_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="run_usage='all': choose own, total or none"):
        OTLPExporter(run_usage="all")  # type: ignore[arg-type]
