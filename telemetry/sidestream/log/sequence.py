"""Sequence numbers of a run's events: sets of them as ranges, and lines that share a number."""

from __future__ import annotations

from bisect import bisect_right


def is_next_piece(seq: int, *, is_chunk: bool, last_chunk: int) -> bool:
    """Whether a line is another piece of the chunk on the run's previous line, and not a duplicate.

    With `chunks=all`, the deltas of one `llm_chunk` event are written as consecutive lines that share its number.
    `last_chunk` is the number of the run's previous line, or -1 if that is not an `llm_chunk`:

        seq 6 llm_chunk, 7 llm_chunk, 7 llm_chunk, 8 llm_end        three pieces of two chunks
        seq 6 llm_chunk, 7 llm_chunk, 8 llm_end, 7 llm_chunk        the last line is a duplicate
    """
    return is_chunk and seq == last_chunk


class Ranges:
    """Set of mostly consecutive integers, as sorted ranges `[first, last]`."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: list[list[int]]) -> None:
        self.ranges = [[first, last] for first, last in ranges]

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self.ranges, number, key=_first) - 1
        return at >= 0 and number <= self.ranges[at][1]

    def next_after(self, number: int) -> int:
        """Start of the first range after `number`; -1 if there is none."""
        at = bisect_right(self.ranges, number, key=_first)
        return self.ranges[at][0] if at < len(self.ranges) else -1

    def add(self, first: int, last: int) -> None:
        """Add the integers from `first` to `last`, both included."""
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
