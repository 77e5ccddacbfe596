"""Decoder of the events from which an index is built."""

from __future__ import annotations

from functools import cache
from typing import Any, Union, get_args

import msgspec

from sidestream.events import AnyEvent, LLMChunkEvent

from .gathering import ChunkHead


@cache
def event_decoder() -> msgspec.json.Decoder[Any]:
    """Decoder of every event type, `llm_chunk` without its data."""
    members = [event for event in get_args(AnyEvent) if event is not LLMChunkEvent]
    return msgspec.json.Decoder(Union[tuple([ChunkHead, *members])])  # noqa: C409, UP007
