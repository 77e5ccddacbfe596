"""Secrets in a run reach neither sinks without access to content, nor Sidestream's diagnostics."""

from __future__ import annotations

import io
import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, BinaryContent, ModelHTTPError, ModelRetry, ThinkingPart
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.fallback import FallbackModel

from sidestream import InMemoryExporter, Sidecar
from sidestream.diagnostics import forget
from sidestream.pipeline.exporter import Exporter
from sidestream_exporters.console import ConsoleExporter
from sidestream_exporters.jsonl import JSONLExporter
from tests.support.provider_model import Says, call, run_variety, used

pytestmark = pytest.mark.scenario_19

SECRET = "s3ntinel-of-the-test"


class Failing(Exporter):
    """Exporter whose errors quote its events."""

    name = "failing"

    def export(self, events: Any) -> None:
        raise ValueError(f"cannot deliver {events}")


def run_all(sidecar: Sidecar) -> None:
    """Runs with the secret in every place for content of people, models and providers, streamed and not."""
    options: dict[str, Any] = {
        "metadata": {"note": SECRET},
        "model_settings": {
            "extra_headers": {"Authorization": SECRET},
            "extra_body": {"key": SECRET},
            "stop_sequences": [SECRET],
            "user": SECRET,
            "logit_bias": {SECRET: 1},
            "temperature": 0.5,
        },
        "message_history": [
            ModelRequest([UserPromptPart(f"earlier {SECRET}")]),
            ModelResponse([TextPart(f"earlier {SECRET}")]),
        ],
    }
    run_variety(sidecar, SECRET, **options)
    failures: list[Exception] = [
        ModelHTTPError(500, "gpt-5", {"error": {"message": SECRET}}),
        ExceptionGroup(SECRET, [ValueError(SECRET)]),
        _chained(),
    ]
    for failure in failures:
        for agent in (
            Agent(Says([[failure]]), name="failing"),
            Agent(Says([[ThinkingPart(SECRET), f"said {SECRET}", failure]]), name="failing"),
            Agent(FallbackModel(Says([[failure]]), Says([["fine", used(1, 1)]])), name="failing"),
        ):
            with suppress(Exception):
                sidecar.observe(agent).run_sync([SECRET, BinaryContent(SECRET.encode(), media_type="text/plain")])
            with suppress(Exception):
                agent.run_stream_sync(SECRET).get_output()
    skipping = Agent(Says([[call("tool", {"a": SECRET}, "c1")], ["done"]]), name="retrying", retries=1)

    @skipping.tool_plain
    def tool(a: str) -> str:
        raise ModelRetry(SECRET)

    with suppress(Exception):
        sidecar.observe(skipping).run_sync(SECRET)


def _chained() -> Exception:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise RuntimeError(f"{SECRET} again") from error
    except RuntimeError as error:
        return error


@pytest.fixture(scope="module", params=["none", "metadata", "full"])
def sinks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Everything that reached each sink, under a common content policy."""
    policy = request.param
    folder = tmp_path_factory.mktemp(policy)
    screen = {"pretty": io.StringIO(), "json": io.StringIO(), "logfmt": io.StringIO()}
    memory = InMemoryExporter(content=policy)
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    forget()
    try:
        with Sidecar(
            memory,
            JSONLExporter(folder / "merged", content=policy),
            JSONLExporter(folder / "all", content=policy, chunks="all"),
            Failing(),
            *(
                ConsoleExporter(verbose=True, format=format, stream=stream, content=policy)
                for format, stream in screen.items()
            ),
            buffer_events=100_000,
        ) as sidecar:
            run_all(sidecar)
            sidecar.flush()
            stats = repr(sidecar.stats())
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    return {
        "policy": policy,
        "memory": "\n".join(map(repr, memory.events)),
        "jsonl": _read(folder / "merged"),
        "jsonl, a line a delta": _read(folder / "all"),
        **{f"console {format}": stream.getvalue() for format, stream in screen.items()},
        "diagnostics": said.getvalue(),
        "stats": stats,
    }


def _read(folder: Path) -> str:
    return "".join(file.read_text("utf-8") for file in sorted(folder.glob("*.jsonl")))


def test_a_secret_reaches_no_sink_that_may_not_see_content(sinks: dict[str, str]) -> None:
    """Absent from all sinks with `none` and `metadata`; present in all with `full`, as a check of the test."""
    seen = {sink for sink, text in sinks.items() if SECRET in text}
    expected = {sink for sink in sinks if sink.startswith(("memory", "jsonl", "console"))}
    assert seen == (expected if sinks["policy"] == "full" else set())


def test_a_secret_reaches_no_diagnostic(sinks: dict[str, str]) -> None:
    """Errors of exporters quote the secret, and are logged without it."""
    assert "exporter keeps failing" in sinks["diagnostics"]
    assert SECRET not in sinks["diagnostics"] + sinks["stats"]


def test_runs_are_told_completely_without_content(sinks: dict[str, str]) -> None:
    """Event types, outcomes and costs are logged under every policy."""
    lines = [json.loads(line) for line in sinks["jsonl"].splitlines()]
    ended = [line["data"] for line in lines if line["event_type"] == "agent_end"]
    assert {end["outcome"] for end in ended} == {"completed", "error", "cancelled", "abandoned"}
    assert {line["data"]["tool_name"] for line in lines if line["event_type"] == "tool_end"} >= {"flaky", "breaks"}
    assert any(end.get("exception_type", "").endswith("ModelHTTPError") for end in ended)


PLACES = {
    "agent_start": "prompt",
    "llm_start": "instructions",
    "llm_chunk": "text",
    "llm_end": "error",
    "tool_start": "args",
    "tool_end": "result",
    "retry": "message",
    "final_result": "output",
    "error": "error",
    "custom": "payload",
}


def test_with_full_the_secret_is_in_every_kind_of_event(sinks: dict[str, str]) -> None:
    """Each content field was filled, streamed and not."""
    if sinks["policy"] != "full":
        pytest.skip("only where content may be seen")
    lines = [json.loads(line) for line in sinks["jsonl"].splitlines()]
    for event_type, name in PLACES.items():
        assert any(
            SECRET in json.dumps(line["data"].get(name)) for line in lines if line["event_type"] == event_type
        ), f"{event_type}.{name}"
    kinds = {line["data"]["kind"] for line in lines if line["event_type"] == "llm_chunk" and SECRET in json.dumps(line)}
    assert kinds >= {"text", "thinking", "tool_call"}
    attempts = [a for line in lines for a in line["data"].get("failed_attempts", ())]
    assert any(SECRET in attempt.get("error", "") for attempt in attempts)


def test_settings_are_the_harmless_ones_alone(sinks: dict[str, str]) -> None:
    """Headers, bodies and user names are never recorded, under any policy."""
    starts = [json.loads(line) for line in sinks["jsonl"].splitlines() if '"llm_start"' in line]
    settings = [start["data"]["settings"] for start in starts if "settings" in start["data"]]
    assert settings
    assert all(each == {"temperature": 0.5} for each in settings)


def test_the_metadata_of_a_run_is_not_recorded(sinks: dict[str, str]) -> None:
    starts = [json.loads(line) for line in sinks["jsonl"].splitlines() if '"agent_start"' in line]
    assert all("note" not in json.dumps({**start["data"], "prompt": None}) for start in starts)
