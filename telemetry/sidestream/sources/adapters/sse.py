"""Adapter for server-sent events: the HTTP response of a provider, without the provider's client."""

from __future__ import annotations

import json
from codecs import getincrementaldecoder
from typing import Any

from sidestream.sources.tap.recorder import StreamRecorder

from .ag_ui import AgUi
from .anthropic import Anthropic
from .choice import ByItem
from .google import Google
from .openai_chat import OpenAIChat
from .openai_responses import OpenAIResponses
from .vercel import Vercel

_FIELDS = ("data:", "event:", "id:", "retry:")
MAX_EVENT = 16_000_000
"""Maximum number of characters of an event. A longer one is discarded, because an event may never end."""


class ServerSentEvents:
    """Items are server-sent events with JSON data, whose format is recognized from the data.

    Accepts pieces of the body (`str`, or UTF-8 bytes, split anywhere), lines without line ends (from `iter_lines()` of
    HTTP clients), and objects with `event` and `data` (such as those of `httpx-sse`).
    """

    def __init__(self) -> None:
        self._read = ByItem((OpenAIChat, OpenAIResponses, Anthropic, Google, AgUi, Vercel))
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""
        """Beginning of an incomplete line."""
        self._lines: bool | None = None
        """Whether items are lines; None if unknown yet."""
        self._event, self._data, self._size = "", list[str](), 0

    @staticmethod
    def recognizes(item: Any) -> bool:
        """Whether `item` can start a stream of events. A leading comment is ambiguous with plain text: False."""
        if isinstance(item, bytes):
            item = item[:8].decode("utf-8", "replace")
        if isinstance(item, str):
            return item.startswith(_FIELDS)
        return isinstance(getattr(item, "event", None), str) and isinstance(getattr(item, "data", None), str)

    def __call__(self, item: Any, record: StreamRecorder, /) -> None:
        if not isinstance(item, str | bytes):
            self._read_event(item.event, item.data, record)
            return
        text = item if isinstance(item, str) else self._decode(item)
        if self._lines is None:
            # Distinguish lines from pieces: a line is followed by another field or an empty line, a piece by the rest
            # of its line.
            if "\n" in text or "\r" in text:
                self._lines = False
            elif self._rest and (text.startswith(_FIELDS) or not text):
                self._lines = True
                self._line(self._rest, record)
                self._rest = ""
            else:
                self._rest += text
                return
        if self._lines:
            self._line(text, record)
            return
        *lines, self._rest = (self._rest + text).replace("\r\n", "\n").split("\n")
        if len(self._rest) > MAX_EVENT:
            self._rest = ""
        for line in lines:
            self._line(line.removesuffix("\r"), record)

    def _line(self, line: str, record: StreamRecorder) -> None:
        if not line:
            event, data = self._event, "\n".join(self._data)
            self._event, self._data, self._size = "", [], 0
            if data:
                self._read_event(event, data, record)
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._size += len(value)
            self._data = [*self._data, value] if self._size <= MAX_EVENT else []

    def _read_event(self, event: str, data: str, record: StreamRecorder) -> None:
        if data == "[DONE]":
            return
        try:
            item = json.loads(data)
        except ValueError:
            item = {"data": data}
        if isinstance(item, dict) and event not in ("", "message"):
            item.setdefault("type", event)
        self._read(item, record)

    def end(self, record: StreamRecorder) -> None:
        """Process the rest, since the last event may lack an empty line."""
        if self._rest:
            self._line(self._rest, record)
        self._line("", record)
        self._read.end(record)
