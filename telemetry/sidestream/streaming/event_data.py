"""`EventData`: type of `event.data` in the streaming functions."""

from __future__ import annotations

from typing import Any

import msgspec

from sidestream.events import Payload, StreamEvent


class EventData(dict[str, Any]):
    """Payload of an event as a plain dict, for `json.dumps(event.data)`, with the fields as attributes too.

    An absent field has no key; its attribute is None.
    """

    __slots__ = ("struct",)

    def __init__(self, payload: Payload) -> None:
        super().__init__(msgspec.to_builtins(payload))
        self.struct = payload
        """Typed payload of the event, as in the log: `AgentStart`, `LLMChunk`, …"""

    def __getattr__(self, name: str) -> Any:
        if name != "struct" and name in self.struct.__struct_fields__:
            return getattr(self.struct, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> tuple[type[EventData], tuple[Payload]]:
        return EventData, (self.struct,)


def with_event_data(event: StreamEvent) -> StreamEvent:
    """`event` with its payload as `EventData`."""
    return msgspec.structs.replace(event, data=EventData(event.data))
