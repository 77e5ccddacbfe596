"""Protocol of adapters, which interpret the items of a tapped stream."""

from __future__ import annotations

from typing import Any, Protocol

from sidestream.sources.tap.recorder import StreamRecorder


class Adapter(Protocol):
    """Interprets the items of a stream: a function `(item, record)`, or a class, instantiated for each stream.

        def my_adapter(item, record):
            if item["type"] == "token":
                record.text(item["text"])

    Called once for each item on the caller's path, so an adapter should be fast. Exceptions are counted
    (`SidecarStats.recording_errors`) and never reach the caller. An optional method `end(record)` is called once, when
    the stream ends or is left.
    """

    def __call__(self, item: Any, record: StreamRecorder, /) -> None: ...
