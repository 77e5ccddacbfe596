"""Small log with an example of everything that pages show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sidestream.events import (
    AgentEnd,
    AgentStart,
    Custom,
    Error,
    FinalResult,
    Payload,
    Retry,
    ToolEnd,
    ToolStart,
    Usage,
    encode_line,
)
from tests.support.run_events import BEGAN, answer, ask, chunk, end, event_log, start

SHOP, BILLING, PLAIN, FAILED, RICH = (
    f"01a1feb2-ed91-7493-9743-2194b4a8{end}" for end in ("0fb1", "357a", "92f6", "9fc2", "7ead")
)
TRACE = "a8c7ace0549e853c000b5dde2677e51d"
BEGUN = BEGAN
ANSWER = ("Your ", "bag ", "arrives ", "on ", "Thursday ", "\N{BICYCLE}", ".")


def lines(
    run_id: str, told: Sequence[tuple[float, Payload]], *, agent: str | None = "support", begun: datetime = BEGUN
) -> bytes:
    """Lines of a run, from payloads and their seconds after the start."""
    return b"".join(map(encode_line, event_log(run_id, *told, agent=agent, began=begun)))


request_end = partial(
    answer,
    duration_seconds=0.3,
    usage=Usage(input_tokens=279, output_tokens=73, cache_read_tokens=128),
    cost_usd=0.00022,
    time_to_first_token_seconds={"text": 0.1},
)


def ends(at: float, outcome: Any = "completed", **more: Any) -> tuple[float, AgentEnd]:
    facts: dict[str, Any] = {
        "total_iterations": 1,
        "total_tokens": 352,
        "tool_calls": 0,
        "retries": 0,
        "usage": Usage(input_tokens=279, output_tokens=73),
        "cost_usd": 0.00022,
    }
    return (at, end(outcome, duration_seconds=at, **(facts | more)))


def shop_run(run_id: str = SHOP, billing_id: str = BILLING) -> bytes:
    """Two requests, a tool with a retry, a sub-agent in a tool, and a custom event."""
    begin = start(
        run_id,
        trace_id=TRACE,
        prompt="Where is my order 4711?",
        tags={"env": "test"},
        pid=1,
        host="elsewhere",
    )
    own = [
        (0.0, begin),
        (0.01, ask(1, instructions="You are the support of a bicycle shop.")),
        (0.1, chunk("I look ", "it up.", kind="thinking", gap_us=20_000)),
        (0.2, chunk('{"order": ', '"PP-4711"}', part=1, kind="tool_call", tool_name="look_up", tool_call_id="c1")),
        (0.31, request_end(1)),
        (0.32, ToolStart(tool_name="look_up", tool_call_id="c1", args={"order": "PP-4711"}, attempt=1)),
        (
            0.33,
            ToolEnd(tool_name="look_up", tool_call_id="c1", outcome="retry", duration_seconds=0.01, error="No dash."),
        ),
        (0.33, Retry(cause="model_retry", tool_name="look_up", tool_call_id="c1", message="No dash.")),
        (0.34, ToolStart(tool_name="ask_billing", tool_call_id="c2", args={"question": "Refund?"}, attempt=1)),
        (0.35, Custom(name="cache_miss", payload={"key": "4711"}, tool_name="ask_billing", tool_call_id="c2")),
        (0.9, ToolEnd(tool_name="ask_billing", tool_call_id="c2", outcome="ok", duration_seconds=0.56, result="Soon.")),
        (0.91, ask(2)),
        (1.1, chunk(*ANSWER, request=2, gap_us=20_000)),
        (1.3, request_end(2)),
        (1.31, FinalResult(output_type="str", output="".join(ANSWER))),
        ends(
            1.32,
            total_iterations=2,
            tool_calls=2,
            retries=1,
            sub_agents=1,
            usage_with_children=Usage(input_tokens=900, output_tokens=160),
            cost_usd_with_children=0.0005,
        ),
    ]
    child = AgentStart(
        root_run_id=run_id,
        parent_run_id=run_id,
        parent_tool_call_id="c2",
        parent_link="tool",
        trace_id=TRACE,
        prompt="Refund?",
    )
    billing = [(0.0, child), (0.01, ask(1)), (0.2, chunk("Within ", "days.")), (0.31, request_end(1)), ends(0.4)]
    return lines(run_id, own) + lines(billing_id, billing, agent="billing", begun=BEGUN + timedelta(seconds=0.4))


def plain_run(run_id: str = PLAIN, *, agent: str | None = "support", minutes: float = 5) -> bytes:
    begin = start(run_id, prompt="Are you open on Saturdays?")
    told = [(0.0, begin), (0.0, ask(1)), (0.2, chunk("Yes, ", "till noon.")), (0.3, request_end(1))]
    told += [(0.31, FinalResult(output="Yes, till noon.")), ends(0.32)]
    return lines(run_id, told, agent=agent, begun=BEGUN + timedelta(minutes=minutes))


def failed_run(run_id: str = FAILED) -> bytes:
    error = "ValueError"
    told = [
        (0.0, start(run_id, prompt="My chain skips.")),
        (0.0, ask(1)),
        (0.1, chunk("Have you ", "tried")),
        (0.2, request_end(1, outcome="error", usage=None, cost_usd=None, usage_source="none", exception_type=error)),
        (0.2, Error(error="The model is overloaded", exception_type=error, where="model", request=1)),
        ends(0.21, "error", exception_type=error, usage=None, cost_usd=None, total_tokens=None),
    ]
    return lines(run_id, told, begun=BEGUN + timedelta(minutes=9))


MARKDOWN = """# Your order

The bag left on **Monday**, see [its way](https://example.com/track):

| item | price |
|:-----|------:|
| bag  | 39.00 |

```python
total = 39
```
"""


def rich_run(run_id: str = RICH) -> bytes:
    """Prompt with pictures, a tool with nested arguments and media in its result, and a Markdown answer."""
    prompt = [
        "Where is my order? Look at **this**:",
        {"kind": "binary", "media_type": "image/png", "bytes": 6301},
        {"kind": "image-url", "url": "https://example.com/bag.jpg"},
    ]
    args = {"order": "PP-4711", "options": {"carrier": "dhl \u202e", "insured": True, "items": [{"sku": "bag"}, 2]}}
    label = {"media_type": "application/pdf", "data": {"kind": "base64", "bytes": 120_000}}
    ways = [{"at": f"2026-11-0{day}", "where": {"city": "Köln", "hub": day}} for day in range(1, 9)]
    told = [
        (0.0, start(run_id, prompt=prompt, tags={"env": "test"})),
        (0.01, ToolStart(tool_name="look_up", tool_call_id="c1", args=args, attempt=1)),
        (
            0.2,
            ToolEnd(
                tool_name="look_up",
                tool_call_id="c1",
                outcome="ok",
                duration_seconds=0.19,
                result={"ways": ways, "label": label},
            ),
        ),
        (0.21, ask(1)),
        (0.31, chunk(*(MARKDOWN[at : at + 9] for at in range(0, len(MARKDOWN), 9)), gap_us=2_000)),
        (0.51, request_end(1, consumer_hold_seconds=0.05)),
        (0.51, FinalResult(output_type="str", output=MARKDOWN)),
        ends(0.52, tool_calls=1),
    ]
    return lines(run_id, told, begun=BEGUN - timedelta(hours=1))


def long_run(run_id: str, calls: int) -> bytes:
    """Run of `calls` tool calls, the last of which fails."""
    told: list[tuple[float, Payload]] = [(0.0, start(run_id, prompt="Sort all orders."))]
    for number in range(calls):
        at, failed = 0.01 * number, number == calls - 1
        told += [
            (at, ToolStart(tool_name="store", tool_call_id=f"c{number}", args={"order": number}, attempt=1)),
            (
                at + 0.005,
                ToolEnd(
                    tool_name="store",
                    tool_call_id=f"c{number}",
                    outcome="failed" if failed else "ok",
                    duration_seconds=0.005,
                    error="The disk is full" if failed else None,
                    result=None if failed else f"stored {number}",
                ),
            ),
        ]
    return lines(run_id, [*told, ends(0.01 * calls, tool_calls=calls)], begun=BEGUN - timedelta(hours=2))


def write_log(folder: Path) -> Path:
    """Write a log of four runs, one of them a sub-agent's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_bytes(shop_run() + plain_run() + failed_run())
    return folder
