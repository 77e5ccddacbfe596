"""Log of one run in a form for comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sidestream.events import StreamEvent, split_pieces
from tests.support.provider_streams import Part


@dataclass
class LoggedRequest:
    """One logged model request."""

    start: Any = None
    chunks: list[StreamEvent] = field(default_factory=list)
    end: Any = None

    def parts(self) -> list[Part]:
        """Parts of the answer in order of their start, without empty pieces."""
        parts: dict[int, Part] = {}
        for event in self.chunks:
            data = event.data
            part = parts.setdefault(data.part, Part(data.kind, [], data.tool_name, data.tool_call_id))
            part.tool_name = part.tool_name or data.tool_name
            part.tool_call_id = part.tool_call_id or data.tool_call_id
            pieces = [data.text] if data.lengths is None else split_pieces(data.text, data.lengths)
            part.pieces += [piece for piece in pieces if piece]
        return list(parts.values())

    def times(self) -> dict[int, list[float]]:
        """Arrival times of the pieces by part, in seconds after the start of the run."""
        times: dict[int, list[float]] = {}
        for event in self.chunks:
            times.setdefault(event.data.part, []).extend(event.offset + us / 1e6 for us in event.data.offsets_us or [0])
        return times


def requests_of(events: Sequence[StreamEvent]) -> list[LoggedRequest]:
    """Model requests of a run, in order."""
    requests: dict[int, LoggedRequest] = {}
    for event in events:
        match event.event_type:
            case "llm_start":
                requests.setdefault(event.data.request, LoggedRequest()).start = event.data
            case "llm_chunk":
                requests.setdefault(event.data.request, LoggedRequest()).chunks.append(event)
            case "llm_end":
                requests.setdefault(event.data.request, LoggedRequest()).end = event.data
    return [requests[number] for number in sorted(requests)]


def of(events: Sequence[StreamEvent], *event_types: str) -> list[Any]:
    """Payloads of the events of these types."""
    return [event.data for event in events if event.event_type in event_types]


def assert_whole(events: Sequence[StreamEvent], outcome: str) -> None:
    """Assert that the events form one complete and consistent run."""
    assert len({event.run_id for event in events}) == 1
    assert [event.seq for event in events] == list(range(len(events)))
    assert [event.event_type for event in events if event.event_type in ("agent_start", "agent_end")] == [
        "agent_start",
        "agent_end",
    ]
    assert events[0].event_type == "agent_start"
    assert events[-1].event_type == "agent_end"
    assert events[-1].data.outcome == outcome
    assert events[-1].data.success == (outcome == "completed")
    starts, ends = of(events, "llm_start"), of(events, "llm_end")
    assert [start.request for start in starts] == [end.request for end in ends] == list(range(1, len(starts) + 1))
    assert len(of(events, "tool_start")) == len(of(events, "tool_end"))


def assert_usage(logged: Any, given: dict[str, int]) -> None:
    """Assert that the log has exactly the counts given by the provider."""
    found = {name: logged.get(name) for name in logged if name.endswith("_tokens")} if logged is not None else {}
    # pydantic-ai does not distinguish a reported zero from a missing count, so absent is correct for both.
    assert {k: v for k, v in found.items() if v} == {k: v for k, v in given.items() if v}
    assert set(found) <= set(given), "counts that the provider did not give"
