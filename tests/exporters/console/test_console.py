"""Console exporter: lines for people."""

from __future__ import annotations

import asyncio
import io
import re
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from sidestream import Sidecar
from sidestream.events import Attempt, Custom, Error, FinalResult, LLMStart, Retry, ToolEnd, ToolStart, Usage
from sidestream.terminal.text import sanitize
from sidestream_exporters.console import ConsoleExporter, pretty
from tests.support.console_events import Run, nested, shown


@pytest.fixture(autouse=True)
def _no_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)


# --- lines for people ----------------------------------------------------------------------------------------------


def test_a_nested_run_in_a_file() -> None:
    """One line per step, sub-agents indented, errors once, unknown cost marked, totals at the end, no truncation."""
    assert shown(nested()) == [
        "12:00:00  planner 3f9a            ▶  gpt-5",
        "12:00:01  planner 3f9a            ✓  gpt-5 #1                     1.22s  1.2k→86 tok     $0.0031"
        "    ttft 410ms",
        "12:00:01  planner 3f9a            …  research()",
        "12:00:02    researcher 77b1       ▶  gpt-5",
        "12:00:03    researcher 77b1       ✓  gpt-5-mini #1                940ms  1.2k→86 tok     unpriced",
        "12:00:03    researcher 77b1       …  fetch()",
        "12:00:03    researcher 77b1       ·  fetch()                       30ms  retry  no",
        "12:00:03    researcher 77b1       ↻  fetch()                     retry 1/3 model_retry",
        "12:00:04    researcher 77b1       ✗  fetch()                      3.00s  failed"
        "  ConnectTimeout: connecting to host took too long",
        "12:00:05    researcher 77b1       ✗  error                        4.10s  1.2k→86 tok     unpriced "
        "  ConnectTimeout  1 request  2 tools  1 retry",
        "12:00:05  planner 3f9a            ✓  research()                   3.90s",
        "12:00:07  planner 3f9a            ✓  gpt-5 #2                     1.22s  12k→9 tok       $0.0031  "
        "              12k cached",
        "12:00:07  planner 3f9a            ✓  completed                    4.10s  13k→95 tok      $0.0062 "
        "   2 requests  1 tool",
        "12:00:07  planner 3f9a            Σ  with 1 sub-agent                    14k→181 tok     $0.0062",
    ]


def test_verbose_adds_what_people_and_models_wrote() -> None:
    run = Run("r-1111", "writer")
    events = [
        run.start(prompt="Write\na poem"),
        run(
            LLMStart(request=1, model="gpt-5", streaming=True, messages=2, instructions="Rhyme.", settings={"seed": 1})
        ),
        run.chunk("Hm, ", "thinking"),
        run.chunk("hm.", "thinking"),
        run.chunk('{"a"', "tool_call", part=1),
        run.request(),
        run(ToolStart(tool_name="look", tool_call_id="a", args={"word": "rain"}, attempt=2)),
        run(ToolEnd(tool_name="look", tool_call_id="a", outcome="ok", duration_seconds=0.0001, result="two\nlines")),
        run.chunk("It rains\r\nin Pa", request=2),
        run.chunk("ris.\n\nYes.", request=2),
        run.request(2),
        run(Custom(name="mood", payload={"wet": True})),
        run(FinalResult(output={"poem": 1}, output_type="Poem")),
        run(Error(where="output", exception_type="ValueError", error="two\nlines")),
        run.end(),
    ]
    text = [line[22:].strip() for line in shown(events, verbose=True)]
    assert [re.sub(r"\s{2,}", "  ", line) for line in text] == [
        "▶  gpt-5",
        "│  prompt: Write",
        "│  a poem",
        '…  gpt-5 #1  2 messages  {"seed": 1}',
        "│  instructions: Rhyme.",
        "│  thinking: Hm, hm.",
        "✓  gpt-5 #1  1.22s  1.2k→86 tok  $0.0031",
        "…  look()  attempt 2",
        '│  args: {"word": "rain"}',
        "✓  look()  0.10ms",
        "│  result: two",
        "│  lines",
        "│  text: It rains",
        "│  in Paris.",
        "│",
        "│  Yes.",
        "✓  gpt-5 #2  1.22s  1.2k→86 tok  $0.0031",
        "·  mood",
        '│  payload: {"wet": true}',
        "·  output  Poem",
        '│  output: {"poem": 1}',
        "✗  output  error",
        "│  ValueError: two",
        "│  lines",
        "✓  completed  4.10s",
    ]


def test_an_output_that_was_just_streamed_is_not_shown_again() -> None:
    run = Run("r", "a")
    lines = shown([run.chunk("Hello "), run.chunk("you"), run(FinalResult(output="Hello you"))], verbose=True)
    assert [line[34:] for line in lines] == ["│  text: Hello you", "·  output                      as above"]


def test_without_verbose_no_content_but_errors_is_shown() -> None:
    text = "\n".join(shown(nested()))
    assert not any(secret in text for secret in ("What to wear?", "Be brief.", "rain", "wet", "raincoat"))
    assert ConsoleExporter().skip == {"llm_chunk", "llm_start", "final_result", "progress"}
    assert ConsoleExporter(verbose=True).skip == {"progress"}


def test_a_tool_that_ends_at_once_takes_one_line() -> None:
    """The start is shown only if the end is not in the same batch."""
    run = Run("r", "a")
    call = [
        run(ToolStart(tool_name="look", tool_call_id="1")),
        run(ToolEnd(tool_name="look", tool_call_id="1", outcome="ok", duration_seconds=0.1)),
    ]
    assert len(shown(call, batch=2)) == 1
    assert len(shown(call, batch=1)) == 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"outcome": "interrupted", "usage_source": "partial"}, "! interrupted ≥1.2k→86 tok ≥$0.0031"),
        ({"outcome": "cancelled", "usage": None, "usage_source": "none", "cost_usd": None}, "! cancelled no usage $?"),
        ({"outcome": "skipped", "usage": None, "usage_source": "none", "cost_usd": None}, "· skipped"),
        ({"usage": None, "usage_source": "none", "cost_usd": None}, "✓ no usage $?"),
        ({"usage": Usage(output_tokens=7), "cost_usd": 0.0}, "✓ ?→7 tok $0"),
        ({"finish_reason": "length"}, "! length 1.2k→86 tok $0.0031"),
        ({"stalls": 2, "failed_attempts": [Attempt(model="x", outcome="error")]},
         "✓ 1.2k→86 tok $0.0031 1 failed attempt 2 stalls"),
    ],
)  # fmt: skip
def test_a_request_says_its_outcome_and_what_is_not_known(fields: dict[str, Any], said: str) -> None:
    (line,) = shown([Run("r", "a").request(**fields)])
    assert " ".join(line[34:].replace("gpt-5 #1", "").replace("1.22s", "").split()) == said


@pytest.mark.parametrize("outcome", ["error", "cancelled", "timed_out", "abandoned"])
def test_a_run_that_did_not_complete_says_how_it_ended(outcome: str) -> None:
    (line,) = shown([Run("r", "a").end(outcome=outcome)])
    assert line[34:].split()[:2] == ["✗" if outcome in ("error", "timed_out") else "!", outcome]


def test_a_cost_with_unpriced_requests_is_a_lower_bound() -> None:
    (line,) = shown([Run("r", "a").end(total_iterations=2, cost_usd=1.5, unpriced_requests=1)])
    assert "≥$1.50" in line


@pytest.mark.parametrize("count", ["partial_requests", "unmeasured_requests"])
def test_what_a_run_used_is_a_lower_bound_where_a_request_was_not_measured_whole(count: str) -> None:
    usage = Usage(input_tokens=50, output_tokens=2)
    (line,) = shown([Run("r", "a").end(total_iterations=2, usage=usage, cost_usd=0.00002, **{count: 1})])
    assert "≥50→2 tok" in line
    assert "≥$0.00002" in line


def test_figures_with_sub_agents_are_lower_bounds_where_a_sub_agent_s_are() -> None:
    usage = Usage(input_tokens=50, output_tokens=2)
    totals: dict[str, Any] = {
        "usage_with_children": usage,
        "cost_usd_with_children": 0.5,
        "usage": usage,
        "cost_usd": 0.25,
    }
    own, both = shown([Run("r", "a").end(total_iterations=1, sub_agents=1, incomplete_sub_agents=1, **totals)])
    assert "≥" not in own
    assert "≥50→2 tok" in both
    assert "≥$0.50" in both


@pytest.mark.parametrize(
    ("outcome", "glyph", "color"),
    [("ok", "✓", "32"), ("failed", "✗", "1;31"), ("cancelled", "!", "33"), ("skipped", "·", "2")],
)
def test_a_verdict_has_one_glyph_and_one_colour(outcome: Any, glyph: str, color: str) -> None:
    end = Run("r", "a")(ToolEnd(tool_name="t", outcome=outcome, duration_seconds=0.1))
    (line,) = shown([end], color=True)
    assert f"\x1b[{color}m{glyph}\x1b[0m" in line


def test_an_error_that_no_request_or_tool_tells_has_its_own_line() -> None:
    run = Run("r", "a")
    error = run(Error(where="run", exception_type="pydantic_ai.exceptions.UsageLimitExceeded", error="limit of 5"))
    lines = shown([error, run.end(outcome="error", exception_type="pydantic_ai.exceptions.UsageLimitExceeded")])
    assert lines[0].endswith("error  UsageLimitExceeded: limit of 5")
    assert lines[1].endswith("UsageLimitExceeded")


def test_an_error_of_a_run_that_never_ends_is_shown_on_close() -> None:
    (line,) = shown([Run("r", "a")(Error(where="run", error="oh"))])
    assert line.endswith("error  oh")


def test_runs_that_take_turns_stay_apart() -> None:
    """Streamed text is written in whole lines, each labelled with its run."""
    one, two = Run("r-1111", "one"), Run("r-2222", "two")
    events = [one.chunk("a1 "), two.chunk("b1 "), one.chunk("a2\na3 "), two.chunk("b2\n"), one.chunk("a4"), one.end()]
    assert [[*line.split()[:2], line[34:]] for line in shown(events, verbose=True)][:3] == [
        ["one", "1111", "│  text: a1 a2"],
        ["two", "2222", "│  text: b1 b2"],
        ["one", "1111", "│  a3 a4"],
    ]


def test_each_root_run_has_a_colour_that_its_sub_agents_share() -> None:
    one, two = Run("r-1111", "one"), Run("r-2222", "two")
    child = Run("r-3333", "child", root="r-1111", parent="r-1111")
    lines = shown([one.start(), two.start(), child.start(), one.request(), two.request()], color=True)
    colors = [re.search(r"\x1b\[(\d+)m *\w+ \d{4}\x1b", line) for line in lines]
    first, second, *rest = [match[1] for match in colors if match]
    assert first != second
    assert rest == [first, first, second]


def test_a_run_stands_as_deep_as_it_says_though_those_above_it_were_not_seen() -> None:
    grandchild = Run("r-4444", "deep", root="r-1", parent="r-3")
    [line] = shown([grandchild.start(depth=2)])
    assert line.startswith("12:00:00      deep 4444 ")


def test_a_run_whose_start_was_not_seen_is_shown_all_the_same() -> None:
    child = Run("r-3333", None, root="r-1", parent="r-1")
    lines = shown([Run("r-2222", "late").request(), child.start(), Run("", None).end()])
    assert lines[0].startswith("12:00:00  late 2222 ")
    assert lines[1].startswith("12:00:00    agent 3333 "), "its parent is unknown, yet it has one"
    assert lines[2].startswith("12:00:00  agent ")


def test_what_is_kept_of_runs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended runs are removed, and the number of unfinished runs is limited."""
    monkeypatch.setattr(pretty, "MAX_RUNS", 50)
    monkeypatch.setattr("sidestream_exporters.console.exporter.MAX_RUNS", 50)
    exporter = ConsoleExporter(stream=io.StringIO(), verbose=True)
    for number in range(120):
        run = Run(f"run-{number}", "a")
        exporter.export([run.start(), run.chunk("half a line")])
    kept = (exporter._runs, exporter._pretty._pages, exporter._pretty._colors)
    assert [len(table) for table in kept] == [50, 50, 50]
    exporter.export([Run(f"run-{number}", "a").end() for number in range(70, 120)])
    assert [len(table) for table in kept] == [0, 0, 0]


def test_a_real_agent_seen_through_a_sidecar() -> None:
    helper = Agent(TestModel(custom_output_text="found"), name="helper")
    agent = Agent(TestModel(), name="boss")

    @agent.tool_plain
    async def ask() -> str:
        return (await helper.run("what?")).output

    stream = io.StringIO()
    with Sidecar(ConsoleExporter(stream=stream, verbose=True)) as sidecar:
        sidecar.observe(helper)
        asyncio.run(sidecar.observe(agent).run("Go on."))
    lines = [line[10:] for line in stream.getvalue().splitlines()]
    assert lines[0].startswith("boss ")
    assert lines[1].endswith("│  prompt: Go on.")
    assert any(re.match(r"  helper \w{4} +✓  completed", line) for line in lines)
    assert re.match(r"boss \w{4} +Σ  with 1 sub-agent", lines[-1])


def test_long_content_is_cut_with_a_note() -> None:
    run = Run("r", "a")
    lines = shown([run.start(prompt="x" * 50_000), run.chunk("y" * 30_000), run.end()], verbose=True)
    assert lines[1].endswith("x... (+30000 characters)")
    assert max(len(line) for line in lines[2:]) < 300


# --- untrusted text ------------------------------------------------------------------------------------------------

EVIL = "\x1b[2J\x1b]0;pwned\x07\x9b31m\r\x08\u202egnp\u2028\udc80\x00"


@pytest.mark.parametrize("format", ["pretty", "json", "logfmt"])
def test_no_text_can_steer_the_terminal(format: str) -> None:
    run = Run(f"r{EVIL}", f"a{EVIL}", parent=EVIL)
    events = [
        run.start(prompt=EVIL, tags={EVIL: EVIL}),
        run(LLMStart(request=1, model=EVIL, streaming=True, instructions=[EVIL], settings={EVIL: EVIL})),
        run.chunk(EVIL),
        run.chunk(EVIL, "thinking"),
        run.request(model=EVIL, finish_reason=EVIL, outcome="error", exception_type=EVIL, error=EVIL),
        run(ToolStart(tool_name=EVIL, args={EVIL: [EVIL]})),
        run(ToolEnd(tool_name=EVIL, outcome="failed", result=EVIL, exception_type=EVIL, error=EVIL + "2")),
        run(Retry(cause=EVIL, tool_name=EVIL, message=EVIL + "3")),
        run(Custom(name=EVIL, payload=EVIL)),
        run(FinalResult(output=EVIL, output_type=EVIL)),
        run(Error(where="run", exception_type=EVIL, error=EVIL + "4")),
        run.end(outcome="error", exception_type=EVIL),
    ]
    for verbose in (False, True):
        stream = io.StringIO()
        exporter = ConsoleExporter(stream=stream, format=format, verbose=verbose)
        assert exporter.export([event for event in events if event.event_type not in exporter.skip]) is None
        written = stream.getvalue()
        assert "pwned" in written
        assert sanitize(written, keep="\n") == written
        written.encode()
