"""Bounded queue of one exporter's events, with priorities for overflow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import TypeAlias

from sidestream.events import Json, LLMChunk, StreamEvent, StreamEventType

Item: TypeAlias = tuple[int, int, StreamEvent]
"""Sequence number, size in bytes, and event. Sequence numbers are unique, so that items sort."""

RANKS = {StreamEventType.LLM_CHUNK: 0} | dict.fromkeys(
    (StreamEventType.LLM_END, StreamEventType.ERROR, StreamEventType.AGENT_END, StreamEventType.SCORE), 2
)
"""Priority of event types in a full queue: 0 is dropped first, 2 last. Default: 1."""

SIZE_SAMPLE = 16
"""Number of a container's items measured to estimate its size."""
SIZE_STEPS = 64
"""Maximum number of values to visit in one piece of content."""


class EventQueue:
    """Bounded queue that drops deltas first, and ends of requests and runs last.

    Ends may exceed the bounds up to twice, which keeps memory finite. Taken events count until their release, because
    they are still in memory.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._by_rank: tuple[deque[Item], ...] = (deque(), deque(), deque())
        self._bytes = 0
        self.events = 0
        """Number of events that are queued, or taken and not yet released."""

    def put(self, item: Item) -> int:
        """Add `item`; returns the number of dropped events, including `item` itself if there is no room."""
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
        """Take up to `limit` events, the oldest first. They count until `release`."""
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
        """Release taken `items`."""
        for _, size, _ in items:
            self.events -= 1
            self._bytes -= size

    def oldest(self) -> int | None:
        """Number of the oldest queued event; None if empty."""
        return min((queue[0][0] for queue in self._by_rank if queue), default=None)

    def count_until(self, number: int) -> int:
        """Number of queued events whose sequence number is at most `number`."""
        return sum(item[0] <= number for queue in self._by_rank for item in queue)

    def is_half_full(self) -> bool:
        return not self._has_room(0, bounds=0.5)

    def _has_room(self, size: int, bounds: float = 1) -> bool:
        return self.events < self._max_events * bounds and (
            self.events == 0 or self._bytes + size <= self._max_bytes * bounds
        )

    def _evict(self, rank: int, size: int) -> int:
        """Drop events of lower priority, oldest first, until `size` bytes fit; returns the number of dropped events."""
        dropped = 0
        for queue in self._by_rank[:rank]:
            while queue and size <= self._max_bytes and not self._has_room(size):
                self._bytes -= queue.popleft()[1]
                self.events -= 1
                dropped += 1
        return dropped


def size_of(event: StreamEvent) -> int:
    """Approximate memory use of `event` in bytes."""
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
    """Approximate size of `value` in bytes, in bounded time: large containers are sampled."""
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
