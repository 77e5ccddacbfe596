"""Queue of one exporter: dropped events on overflow, and the order of the others."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidestream.events import Json, StreamEvent, ToolStart, make_event
from sidestream.pipeline.queue import EventQueue, size_of
from tests.support.faulty_exporters import PAYLOADS, an_event

pytestmark = pytest.mark.scenario_14


def tool_start(args: Json) -> StreamEvent:
    return make_event(ToolStart(tool_name="look_up", args=args), run_id="r", seq=0)


class Filled:
    """Queue, and the events put into it."""

    def __init__(self, max_events: int = 10_000, max_bytes: int = 10**9) -> None:
        self.queue = EventQueue(max_events, max_bytes)
        self.dropped = 0
        self._numbers = count(1)

    def put(self, *kinds: str, size: int = 1) -> list[int]:
        numbers = []
        for kind in kinds:
            numbers.append(next(self._numbers))
            self.dropped += self.queue.put((numbers[-1], size, an_event(kind)))
        return numbers

    def numbers(self) -> list[int]:
        return [number for number, _, _ in self.queue.take(10**6)]


def test_chunks_make_room_for_everything_else() -> None:
    filled = Filled(max_events=10)
    filled.put(*["llm_chunk"] * 10)
    kept = filled.put(*["tool_start"] * 4, *["agent_end"] * 6)
    assert filled.dropped == 10
    assert filled.numbers() == kept


def test_what_is_no_end_makes_room_for_the_ends() -> None:
    filled = Filled(max_events=4)
    filled.put(*["tool_start"] * 4)
    kept = filled.put("llm_end", "error", "agent_end", "agent_end")
    assert filled.dropped == 4
    assert filled.numbers() == kept


def test_ends_are_kept_up_to_a_second_bound_and_no_further() -> None:
    filled = Filled(max_events=10)
    ends = filled.put(*["llm_end", "error", "agent_end"] * 10)
    assert filled.queue.events == 20
    assert filled.numbers() == ends[:20]


def test_a_full_queue_takes_no_more_of_the_same_kind() -> None:
    filled = Filled(max_events=3)
    chunks = filled.put(*["llm_chunk"] * 10)
    assert filled.dropped == 7
    assert filled.numbers() == chunks[:3]


@pytest.mark.parametrize("kind", ["llm_chunk", "tool_start", "agent_end"])
def test_the_bytes_that_wait_are_bounded_for_every_kind(kind: str) -> None:
    filled = Filled(max_bytes=1_000_000)
    filled.put(*[kind] * 500, size=50_000)
    assert filled.queue.events * 50_000 <= 2_000_000 + 50_000


def test_events_make_room_when_they_are_released_and_not_before() -> None:
    filled = Filled(max_events=3)
    filled.put(*["tool_start"] * 3)
    taken = filled.queue.take(3)
    filled.put("tool_start")
    assert filled.dropped == 1
    filled.queue.release(taken)
    filled.put(*["tool_start"] * 3)
    assert filled.dropped == 1


def test_an_event_larger_than_the_bound_is_taken_when_nothing_waits() -> None:
    filled = Filled(max_bytes=1_000)
    filled.put("tool_start", size=5_000)
    assert (filled.dropped, filled.queue.events) == (0, 1)


def test_an_event_that_can_never_fit_drives_out_no_other() -> None:
    filled = Filled(max_bytes=1_000)
    filled.put(*["llm_chunk"] * 5, size=10)
    filled.put("tool_start", size=5_000)
    assert (filled.dropped, filled.queue.events) == (1, 5)


@given(
    kinds=st.lists(st.sampled_from(list(PAYLOADS)), max_size=60),
    sizes=st.lists(st.sampled_from([1, 90, 700, 3_000]), min_size=60, max_size=60),
    limit=st.integers(1, 10),
)
def test_what_is_kept_comes_out_once_in_the_order_in_which_it_came(
    kinds: list[str], sizes: list[int], limit: int
) -> None:
    queue, dropped = EventQueue(20, 2_000), 0
    for number, (kind, size) in enumerate(zip(kinds, sizes, strict=False)):
        dropped += queue.put((number, size, an_event(kind)))
        assert queue.events + dropped == number + 1
    numbers: list[int] = []
    while batch := queue.take(limit):
        assert len(batch) <= limit
        numbers += [number for number, _, _ in batch]
        queue.release(batch)
    assert numbers == sorted(set(numbers))
    assert len(numbers) + dropped == len(kinds)
    assert queue.events == 0


def test_the_size_of_content_is_that_of_its_keys_and_texts() -> None:
    without, with_args = tool_start(None), tool_start({"key": "x" * 100})
    assert size_of(with_args) - size_of(without) == 50 + len("key") + 100


@pytest.mark.parametrize(
    ("args", "characters"),
    [
        ({"rows": ["x" * 100] * 10_000}, 1_000_000),
        ({f"key {number}": "y" * 60 for number in range(5_000)}, 340_000),
    ],
    ids=["long list", "large mapping"],
)
def test_the_size_of_large_content_is_estimated_from_a_sample(args: Json, characters: int) -> None:
    assert 0.9 < size_of(tool_start(args)) / characters < 1.2
