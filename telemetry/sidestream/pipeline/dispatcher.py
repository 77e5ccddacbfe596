"""From the runs to the exporters: every event to every channel, and the promises about flush, close and fork."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice

from sidestream.events import Json, LLMChunk, StreamEvent
from sidestream.recording.content import ContentPolicy, Redactor
from sidestream.stats import ExporterStats, SidecarStats

from .channel import Channel
from .exporter import Exporter

SIZE_SAMPLE = 16
"""Items of a container that are looked at to tell its size."""
SIZE_STEPS = 64
"""Values within one piece of content that are looked at in all."""


class Hub:
    """All exporters of one sidecar. `put` is called beside an agent and does no I/O."""

    def __init__(
        self, exporters: Sequence[Exporter], *, max_events: int, max_bytes: int, redact: Redactor | None
    ) -> None:
        self._channels: list[Channel] = []
        for exporter in exporters:
            name, same = exporter.name, sum(channel.exporter.name == exporter.name for channel in self._channels)
            self._channels.append(
                Channel(
                    f"{name}-{same + 1}" if same else name,
                    exporter,
                    max_events=max_events,
                    max_bytes=max_bytes,
                    redact=redact,
                )
            )

    def begin(self, get_stats: Callable[[], SidecarStats]) -> None:
        """The sidecar stands: exporters may read its statistics, and those that do not wait for events start."""
        for channel in self._channels:
            channel.exporter.bind(get_stats)
            channel.begin()

    @property
    def spans(self) -> bool:
        """Whether an exporter exports spans."""
        return any(channel.exporter.spans for channel in self._channels)

    @property
    def policies(self) -> list[ContentPolicy]:
        """The content policy of each exporter: whether anyone wants content at all."""
        return [channel.exporter.content for channel in self._channels]

    def put(self, event: StreamEvent) -> None:
        """Hand `event` to every exporter's buffer."""
        size = _size(event)
        for channel in self._channels:
            channel.put(event, size)

    def stats(self) -> dict[str, ExporterStats]:
        return {channel.name: channel.stats() for channel in self._channels}

    def report(self, *, final: bool = False) -> None:
        """Let each channel say what it has to say; called from a thread that may block."""
        for channel in self._channels:
            channel.report(final=final)

    def flush(self, timeout: float) -> dict[str, int]:
        """Deliver what has been seen, within `timeout` seconds; returns by exporter what was not, empty if all was."""
        deadline = time.monotonic() + timeout
        before = self._dropped()
        flushes = [(channel, channel.request_flush()) for channel in self._channels]
        pending = {channel.name: channel.wait_flushed(flush, deadline) for channel, flush in flushes}
        return _lost(before, self._dropped(), pending)

    def close(self, timeout: float) -> dict[str, int]:
        """Deliver what is pending, close every exporter, within `timeout` seconds; returns as `flush` does.

        Where durable exporters have everything, one that hangs is given up early: a replay brings the rest.
        """
        deadline = time.monotonic() + timeout
        before = self._dropped()
        for channel in self._channels:
            channel.request_close()
        durable = [channel for channel in self._channels if channel.exporter.durable]
        for channel in durable:
            channel.wait_closed(deadline)
        recorded = bool(durable) and not any(channel.stats().dropped for channel in durable)
        for channel in self._channels:
            channel.wait_closed(deadline, recorded=recorded)
        self.report(final=True)
        return _lost(before, self._dropped(), {})

    def after_fork(self) -> None:
        for channel in self._channels:
            channel.after_fork()

    def _dropped(self) -> dict[str, int]:
        return {channel.name: sum(channel.stats().dropped.values()) for channel in self._channels}


def _lost(before: dict[str, int], after: dict[str, int], pending: dict[str, int]) -> dict[str, int]:
    lost = {name: after[name] - before[name] + pending.get(name, 0) for name in after}
    return {name: count for name, count in lost.items() if count}


def _size(event: StreamEvent) -> int:
    """Roughly the bytes an event keeps alive."""
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
