"""Events of synthetic runs, and the output of the console exporter for them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sidestream.events import (
    Error,
    FinalResult,
    LLMStart,
    Payload,
    Progress,
    Retry,
    StreamEvent,
    ToolEnd,
    ToolStart,
    Usage,
    make_event,
)
from sidestream_exporters.console import ConsoleExporter
from tests.support import run_events

NOON = datetime(2026, 1, 2, 12, 0, 0).astimezone(UTC)  # noon in the local time zone


class Run:
    """Builder of the events of one run."""

    def __init__(self, run_id: str, agent: str | None, *, root: str | None = None, parent: str | None = None) -> None:
        self.run_id, self.agent, self.root, self.parent = run_id, agent, root or run_id, parent
        self.seq = -1

    def __call__(self, data: Payload, at: float = 0.0) -> StreamEvent:
        self.seq += 1
        return make_event(
            data, timestamp=NOON + timedelta(seconds=at), run_id=self.run_id, seq=self.seq, agent_name=self.agent
        )

    def start(self, at: float = 0.0, **fields: Any) -> StreamEvent:
        return self(run_events.start(self.root, parent_run_id=self.parent, model="gpt-5", **fields), at)

    def request(self, number: int = 1, at: float = 0.0, **fields: Any) -> StreamEvent:
        usual: dict[str, Any] = {
            "provider": None,
            "streaming": None,
            "duration_seconds": 1.22,
            "model": "gpt-5",
            "usage": Usage(input_tokens=1_204, output_tokens=86),
            "cost_usd": 0.0031,
        }
        return self(run_events.answer(number, **usual | fields), at)

    def chunk(self, text: str, kind: Any = "text", part: int = 0, request: int = 1) -> StreamEvent:
        return self(run_events.chunk(text, request=request, part=part, kind=kind))

    def end(self, at: float = 0.0, outcome: Any = "completed", **fields: Any) -> StreamEvent:
        return self(run_events.end(outcome, **{"duration_seconds": 4.1} | fields), at)


def nested() -> Iterator[StreamEvent]:
    planner = Run("0199-3f9a", "planner")
    helper = Run("0199-77b1", "researcher", root=planner.run_id, parent=planner.run_id)
    yield planner.start(prompt="What to wear?")
    yield planner(LLMStart(request=1, model="gpt-5", streaming=True, messages=1, instructions="Be brief."))
    yield planner.request(at=1, time_to_first_token_seconds={"thinking": 0.41, "text": 0.9})
    yield planner(ToolStart(tool_name="research", tool_call_id="b", args={"topic": "rain"}), 1)
    yield helper.start(2, prompt="rain")
    yield helper.request(at=3, model="gpt-5-mini", cost_usd=None, unpriced=True, duration_seconds=0.94)
    yield helper(ToolStart(tool_name="fetch", tool_call_id="x"), 3)
    yield helper(ToolEnd(tool_name="fetch", tool_call_id="x", outcome="retry", duration_seconds=0.03, error="no"), 3)
    yield helper(Retry(cause="model_retry", attempt=1, max_attempts=3, tool_name="fetch", message="no"), 3)
    failure: dict[str, Any] = {"exception_type": "httpx.ConnectTimeout", "error": "connecting to\nhost took too long"}
    yield helper(Error(where="tool", tool_name="fetch", tool_call_id="y", **failure), 4)
    yield helper(ToolEnd(tool_name="fetch", tool_call_id="y", outcome="failed", duration_seconds=3.0, **failure), 4)
    yield helper.end(
        5, "error", exception_type="httpx.ConnectTimeout", total_iterations=1, tool_calls=2, retries=1,
        usage=Usage(input_tokens=1_204, output_tokens=86), unpriced_requests=1,
    )  # fmt: skip
    yield planner(ToolEnd(tool_name="research", tool_call_id="b", outcome="ok", duration_seconds=3.9, result="wet"), 5)
    yield planner(Progress(iteration=1, total_tokens=1_290), 5)
    yield planner.request(2, 7, usage=Usage(input_tokens=12_000, output_tokens=9, cache_read_tokens=11_500))
    yield planner(FinalResult(output="A raincoat.", output_type="str"), 7)
    yield planner.end(
        7, total_iterations=2, tool_calls=1, usage=Usage(input_tokens=13_204, output_tokens=95), cost_usd=0.0062,
        usage_with_children=Usage(input_tokens=14_408, output_tokens=181), cost_usd_with_children=0.0062,
        sub_agents=1,
    )  # fmt: skip


def shown(events: Iterable[StreamEvent], batch: int = 1, **options: Any) -> list[str]:
    """Console lines for `events`, exported in batches."""
    stream = io.StringIO()
    exporter = ConsoleExporter(stream=stream, **options)
    offered = [event for event in events if event.event_type not in exporter.skip]
    for start in range(0, len(offered), batch):
        assert exporter.export(offered[start : start + batch]) is None
    exporter.close()
    return stream.getvalue().splitlines()
