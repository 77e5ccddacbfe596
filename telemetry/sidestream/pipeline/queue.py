"""Bounded queue of one exporter's events, and the policy of what goes when it is full."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import TypeAlias

from sidestream.events import Json, LLMChunk, StreamEvent, StreamEventType

Item: TypeAlias = tuple[int, int, StreamEvent]
"""Number in the order of all events, size in bytes, event. No two items have the same number, so that items sort."""

RANKS = {StreamEventType.LLM_CHUNK: 0} | dict.fromkeys(
    (StreamEventType.LLM_END, StreamEventType.ERROR, StreamEventType.AGENT_END, StreamEventType.SCORE), 2
)
"""Who makes room for whom in a full queue: 0 goes first, 2 last. Every other type is 1."""

SIZE_SAMPLE = 16
"""Items of a container that are measured to estimate its size."""
SIZE_STEPS = 64
"""Values within one piece of content that are looked at in all."""


class EventQueue:
    """Bounded queue: deltas make room for everything else, and everything else for the ends of requests and runs.

    The ends outrank the bounds, up to bounds twice as large which keep memory finite. Events that have been taken count
    until they are released: they are still in memory.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._by_rank: tuple[deque[Item], ...] = (deque(), deque(), deque())
        self._bytes = 0
        self.events = 0
        """Events that wait or have been taken and not released."""

    def put(self, item: Item) -> int:
        """Add `item`; returns how many events had to go, the item itself included where there is no room for it."""
        _, size, event = item
        rank = RANKS.get(event.event_type, 1)
        dropped = 0
        if not self._has_room(size):
            dropped = self._evict(rank, size)
            if not self._has_room(size, bounds=2 if rank == 2 else 1):
                return dropped + 1
        self._by_rank[rank].append(item)
        self.events += 1
        self._bytes += size
        return dropped

    def take(self, limit: int) -> list[Item]:
        """The oldest events, `limit` at most, in order. They count until `release`."""
        queues = [queue for queue in self._by_rank if queue]
        if len(queues) == 1:
            (queue,) = queues
            return [queue.popleft() for _ in range(min(limit, len(queue)))]
        oldest = sorted(item for queue in queues for item in islice(queue, limit))[:limit]
        for queue in queues:
            while queue and queue[0][0] <= oldest[-1][0]:
                queue.popleft()
        return oldest

    def release(self, items: Iterable[Item]) -> None:
        """Forget `items` that were taken."""
        for _, size, _ in items:
            self.events -= 1
            self._bytes -= size

    def oldest(self) -> int | None:
        """Number of the oldest event that waits."""
        return min((queue[0][0] for queue in self._by_rank if queue), default=None)

    def count_until(self, number: int) -> int:
        """How many of the waiting events have at most that `number`."""
        return sum(item[0] <= number for queue in self._by_rank for item in queue)

    def is_half_full(self) -> bool:
        return not self._has_room(0, bounds=0.5)

    def _has_room(self, size: int, bounds: float = 1) -> bool:
        return self.events < self._max_events * bounds and (
            self.events == 0 or self._bytes + size <= self._max_bytes * bounds
        )

    def _evict(self, rank: int, size: int) -> int:
        """Drop older events of lower ranks until `size` bytes fit; returns how many."""
        dropped = 0
        for queue in self._by_rank[:rank]:
            while queue and size <= self._max_bytes and not self._has_room(size):
                self._bytes -= queue.popleft()[1]
                self.events -= 1
                dropped += 1
        return dropped


def size_of(event: StreamEvent) -> int:
    """Roughly the bytes that `event` keeps alive."""
    data = event.data
    size = 500
    for name in data.content_fields:
        value = getattr(data, name)
        if value is not None:
            size += len(value) if type(value) is str else _json_size(value)
    if type(data) is LLMChunk and data.lengths:
        size += 40 * len(data.lengths)
    return size


def _json_size(value: Json) -> int:
    """Roughly the bytes of `value`, in bounded time: large containers are estimated from their first items."""
    size = 0.0
    todo: list[tuple[Json, float]] = [(value, 1.0)]
    for _ in range(SIZE_STEPS):
        if not todo:
            break
        item, weight = todo.pop()
        size += weight * (len(item) if isinstance(item, str) else 50)
        if isinstance(item, list | dict):
            weight *= max(1.0, len(item) / SIZE_SAMPLE)
            some = item.items() if isinstance(item, dict) else ((None, each) for each in item)
            for key, each in islice(some, SIZE_SAMPLE):
                size += weight * len(str(key)) if key is not None else 0.0
                todo.append((each, weight))
    return int(size + sum(50 * weight for _, weight in todo))
