"""Sequence numbers of a run's events: which have come, and which lines share one."""

from __future__ import annotations

from bisect import bisect_right


def is_next_piece(seq: int, *, is_chunk: bool, last_chunk: int) -> bool:
    """Whether a line is a further piece of the chunk on the line before it of the same run, not an event twice.

    With `chunks=all` the deltas that one `llm_chunk` event gathered are lines of their own, one after the other, and
    share its number. `last_chunk` is the number of that line before, -1 where it is no `llm_chunk`:

        seq 6 llm_chunk, 7 llm_chunk, 7 llm_chunk, 8 llm_end        three pieces of two chunks
        seq 6 llm_chunk, 7 llm_chunk, 8 llm_end, 7 llm_chunk        the last line is there twice
    """
    return is_chunk and seq == last_chunk


class Ranges:
    """Set of integers that mostly come in a row, as ranges `[first, last]` in order."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: list[list[int]]) -> None:
        self.ranges = [[first, last] for first, last in ranges]

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self.ranges, number, key=_first) - 1
        return at >= 0 and number <= self.ranges[at][1]

    def next_after(self, number: int) -> int:
        """The lowest member from `number` on; -1 where there is none."""
        at = bisect_right(self.ranges, number, key=_first)
        return self.ranges[at][0] if at < len(self.ranges) else -1

    def add(self, first: int, last: int) -> None:
        """Take in `first` to `last`, both included."""
        ranges = self.ranges
        at = bisect_right(ranges, first, key=_first)
        if at > 0 and ranges[at - 1][1] >= first - 1:
            at -= 1
            first = ranges[at][0]
        upto = at
        while upto < len(ranges) and ranges[upto][0] <= last + 1:
            last = max(last, ranges[upto][1])
            upto += 1
        ranges[at:upto] = [[first, last]]


def _first(pair: list[int]) -> int:
    return pair[0]
