"""Sequence numbers of events: sets of them as ranges, and lines that share a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidestream.log.sequence import Ranges, is_next_piece

ADDED = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=12)
"""First number and length of each range, in a space so small that ranges overlap, touch, and leave gaps of one."""


@given(ADDED)
def test_ranges_are_the_set_of_the_numbers_added(added: list[tuple[int, int]]) -> None:
    ranges, numbers = Ranges([]), set[int]()
    for first, length in added:
        ranges.add(first, first + length)
        numbers |= set(range(first, first + length + 1))
    assert {number for number in range(-1, 40) if number in ranges} == numbers
    starts = sorted(number for number in numbers if number - 1 not in numbers)
    assert [first for first, _ in ranges.ranges] == starts
    for number in range(-1, 40):
        assert ranges.next_after(number) == min((start for start in starts if start > number), default=-1)


@pytest.mark.parametrize(
    ("is_chunk", "last_chunk", "expected"), [(True, 7, True), (True, 6, False), (True, -1, False), (False, 7, False)]
)
def test_a_further_piece_is_a_chunk_with_the_number_of_the_chunk_before(
    is_chunk: bool, last_chunk: int, expected: bool
) -> None:
    assert is_next_piece(7, is_chunk=is_chunk, last_chunk=last_chunk) is expected
