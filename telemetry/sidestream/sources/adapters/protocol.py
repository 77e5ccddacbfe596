"""Adapter protocol: what reads the items of a tapped stream."""

from __future__ import annotations

from typing import Any, Protocol

from sidestream.sources.tap.recorder import StreamRecorder


class Adapter(Protocol):
    """Says what the items of a stream mean: a function `(item, record)`, or a class, made anew for each stream.

        def my_adapter(item, record):
            if item["type"] == "token":
                record.text(item["text"])

    It is called on the caller's path, once for each item, so it should do little. What it raises is counted
    (`SidecarStats.recording_errors`) and changes nothing for the caller. An adapter that has a method `end(record)` is
    called there once, when the stream is over or left.
    """

    def __call__(self, item: Any, record: StreamRecorder, /) -> None: ...
