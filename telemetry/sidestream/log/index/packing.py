"""How an index keeps what a log holds of runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from sidestream.log.reader import Problem
from sidestream.log.runs.summary import RunSummary

from .parts import Facts, RunPart

_T = TypeVar("_T")


def encode(thing: object) -> bytes:
    try:
        return _encode_msgpack(thing)
    except OverflowError:  # MessagePack has no integers of more than 64 bits
        return msgspec.json.encode(thing)


def _decoder(kind: type[_T]) -> Callable[[bytes], _T]:
    from_msgpack, from_json = msgspec.msgpack.Decoder(kind).decode, msgspec.json.Decoder(kind).decode
    return lambda data: from_json(data) if data[:1] in (b"[", b"{") else from_msgpack(data)


_encode_msgpack = msgspec.msgpack.Encoder().encode
decode_part = _decoder(RunPart)
decode_facts = _decoder(Facts)
decode_run = _decoder(RunSummary)
decode_problems = _decoder(list[Problem])
