"""docs/events.md: complete description of the fields, and working `jq` examples."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from typing import Any, get_args, get_type_hints

import pytest
from pydantic_ai import Agent

from sidestream import Sidecar, StreamEventType
from sidestream.events import (
    AnyEvent,
    Attempt,
    ChunkKind,
    CostSource,
    RequestOutcome,
    RunOutcome,
    StreamEvent,
    ToolOutcome,
    Usage,
    UsageSource,
)
from tests.support.missing import is_missing
from tests.support.paths import ROOT
from tests.support.provider_model import Says, run_variety, stream, used

PAGE = (ROOT / "docs/events.md").read_text("utf-8")


def section(heading: str) -> str:
    """Section of the page from the heading containing `heading` to the next heading."""
    found = re.search(rf"^#+ [^\n]*{re.escape(heading)}.*?(?=^## |^### |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no section {heading!r}"
    return found[0]


def rows(text: str) -> set[str]:
    """Names in the first columns of a section's tables."""
    return {name for row in re.findall(r"^\|(.*?)\|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize("event", get_args(AnyEvent), ids=lambda event: str(event.event_type))
def test_every_field_of_every_payload_is_on_the_page(event: type[StreamEvent]) -> None:
    """The table of an event type lists exactly its fields."""
    fields = set(get_type_hints(event)["data"].__struct_fields__)
    told = rows(section(f"`{event.event_type}`"))
    if event.event_type.startswith("tool_"):
        assert fields <= told
    else:
        assert fields == told


def test_every_content_field_is_marked_as_content() -> None:
    for event in get_args(AnyEvent):
        for name in get_type_hints(event)["data"].content_fields:
            line = next(row for row in section(f"`{event.event_type}`").splitlines() if name in rows(row))
            assert "**content**" in line, f"{event.event_type}.{name}"


def test_the_envelope_usage_and_attempts_are_on_the_page() -> None:
    assert rows(section("The envelope")) == {*StreamEvent.__struct_fields__, "event_type"}
    assert rows(section("Usage")) == set(Usage.__struct_fields__)
    attempts = next(line for line in PAGE.splitlines() if line.startswith("| `failed_attempts`"))
    assert set(Attempt.__struct_fields__) <= set(re.findall(r"`(\w+)`", attempts))


def test_every_outcome_kind_and_source_is_explained() -> None:
    outcomes = rows(section("Outcomes"))
    for choices in (RunOutcome, RequestOutcome, ToolOutcome):
        assert set(get_args(choices)) <= outcomes
    assert outcomes == {*get_args(RunOutcome), *get_args(RequestOutcome), *get_args(ToolOutcome), "lost"}
    for choice in (*get_args(ChunkKind), *get_args(UsageSource), *get_args(CostSource), *StreamEventType):
        assert f"`{choice}`" in PAGE


# --- the lines of jq -----------------------------------------------------------------------------------------------

LINES = re.findall(r"^```sh\n(jq .*?)\n```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Output of each example on a real log, according to the sentence above it. One run is cut off and lacks an
    event."""
    if shutil.which("jq") is None or os.name == "nt":
        is_missing("the lines need jq and a POSIX shell")
    folder = tmp_path_factory.mktemp("log")
    with Sidecar(f"jsonl:{folder}/runs/") as sidecar:
        run_variety(sidecar)
        asyncio.run(stream(sidecar.observe(Agent(Says([["Grüße, ", "😀", "\n", "end"]]), name="deltas"))))
        unpriced = Agent(
            Says([["x", used(1, 1)]], name="house-model", vendor="house", url="http://house"), name="house"
        )
        sidecar.observe(unpriced).run_sync("go")
    (log,) = (folder / "runs").glob("*.jsonl")
    events = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    deltas = next(event["run_id"] for event in events if event["agent_name"] == "deltas")
    cut_off = [{**event, "run_id": "cut-off"} for event in events if event["run_id"] == deltas][:-1]
    del cut_off[1]
    (folder / "runs" / "other.jsonl").write_text("".join(json.dumps(event) + "\n" for event in cut_off), "utf-8")
    printed: dict[str, str] = {}
    for sentence, line in re.findall(r"^([^\n]+):\n\n```sh\n(jq .*?)\n```", PAGE, re.MULTILINE | re.DOTALL):
        done = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), line
        printed[sentence] = done.stdout
    return printed


def answer(answers: dict[str, str], begins: str) -> list[Any]:
    text = next(text for sentence, text in answers.items() if sentence.startswith(begins))
    return [json.loads(line) for line in text.splitlines()]


def test_there_are_ten_lines_and_each_prints_something(answers: dict[str, str]) -> None:
    assert len(LINES) == len(answers) == 10
    assert all(answers.values())


def test_jq_tells_how_each_run_ended(answers: dict[str, str]) -> None:
    ended = answer(answers, "How each run ended")
    assert {run["outcome"] for run in ended} == {"completed", "error", "cancelled", "abandoned"}
    assert any(run["usd"] is None for run in ended)
    assert any(run["usd"] for run in ended)


def test_jq_gives_the_text_and_its_deltas_back(answers: dict[str, str]) -> None:
    """Text with multi-byte characters is restored exactly."""
    assert "Grüße, 😀\nend" in next(
        text for sentence, text in answers.items() if sentence.startswith("What the models")
    )
    assert ["Grüße, ", "😀", "\n", "end"] in answer(answers, "The single deltas")


def test_jq_tells_a_cost_that_is_not_known_from_zero(answers: dict[str, str]) -> None:
    by_model = {line["model"]: line for line in answer(answers, "What was spent")}
    assert by_model["house-model"] == {"model": "house-model", "requests": 1, "usd": None, "unpriced": 1}
    assert by_model["gpt-5"]["usd"] > 0


def test_jq_finds_slow_tools_and_failures(answers: dict[str, str]) -> None:
    assert {line["tool"] for line in answer(answers, "The ten slowest")} >= {"flaky", "ask_child"}
    assert {line["where"] for line in answer(answers, "What failed")} >= {"model", "tool"}


def test_jq_finds_the_run_that_was_cut_off_and_what_it_lacks(answers: dict[str, str]) -> None:
    (lost,) = answer(answers, "Runs without an end")
    assert (lost["run_id"], lost["pid"]) == ("cut-off", os.getpid())
    assert answer(answers, "Runs of which events are missing") == [{"run_id": "cut-off", "missing": 1}]


def test_jq_tells_who_called_whom_and_how_fast_they_spoke(answers: dict[str, str]) -> None:
    calls = answer(answers, "Which agent called which")
    assert {(line["agent"], line["called_by"]) for line in calls} == {("child", "parent")}
    (times,) = answer(answers, "Time to the first word")
    assert times["requests"] > 0
    assert times["median"] <= times["p95"]
