"""Adapter protocol: what reads the items of a tapped stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sidestream.sources.tap.recorder import Teller


class Adapter(Protocol):
    """Says what the items of a stream mean: a function `(item, tell)`, or a class, made anew for each stream.

        def my_adapter(item, tell):
            if item["type"] == "token":
                tell.text(item["text"])

    It is called on the caller's path, once for each item, so it should do little. What it raises is counted
    (`SidecarStats.recording_errors`) and changes nothing for the caller.
    """

    def __call__(self, item: Any, tell: Teller, /) -> None: ...
