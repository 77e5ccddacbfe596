"""JSONL codec of events: encoding, decoding, and the JSON Schema of a line."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

import msgspec

from sidestream.errors import InvalidEventError

from .model import AnyEvent, StreamEvent

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def encode_line(event: StreamEvent) -> bytes:
    """Encode `event` as one line of JSON with a newline. Never raises on content: values unknown to JSON become text.

    A lone surrogate, which UTF-8 cannot represent, is written as an escape (`\\udc80` becomes these six characters).
    """
    try:
        return _encoder.encode(event) + b"\n"
    except Exception:
        pass
    try:
        return _encoder.encode(_utf8_safe(msgspec.to_builtins(event, str_keys=True, enc_hook=repr))) + b"\n"
    except Exception:  # cycles, keys that are not strings, a `repr` that raises
        note = dict.fromkeys(event.data.content_fields, "[cannot be written as JSON]")
        present = {name: text for name, text in note.items() if getattr(event.data, name) is not None}
        noted = msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, **present))
        return _encoder.encode(_utf8_safe(msgspec.to_builtins(noted))) + b"\n"


def decode_line(line: bytes | str) -> AnyEvent:
    """Decode one line of a log.

    Raises `InvalidEventError` if the line is not an event of schema version 1.
    """
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidEventError(f"not a Sidestream event: {error}") from None


def _utf8_safe(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case {"event_type": "llm_chunk", "data": {"text": str(text), "lengths": [*lengths], **rest}, **envelope}:
            # Escapes are longer than the surrogates, so each piece is escaped separately to keep `lengths` correct.
            pieces = [_utf8_safe(piece) for piece in split_pieces(text, lengths)]
            data = {**_utf8_safe(rest), "text": "".join(pieces), "lengths": [len(piece) for piece in pieces]}
            return {"event_type": "llm_chunk", **_utf8_safe(envelope), "data": data}
        case dict():
            return {_utf8_safe(key): _utf8_safe(item) for key, item in value.items()}
        case list() | tuple():
            return [_utf8_safe(item) for item in value]
        case _:
            return value


def split_pieces(text: str, lengths: list[int]) -> list[str]:
    """Single deltas of an `llm_chunk`: `text` cut into pieces of `lengths` characters."""
    pieces: list[str] = []
    start = 0
    for length in lengths:
        pieces.append(text[start : start + length])
        start += length
    return pieces


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one line of the log, generated from the event types."""
    schema = msgspec.json.schema(AnyEvent)
    for definition in schema["$defs"].values():
        if description := definition.get("description"):  # a docstring, which Python before 3.13 leaves indented
            definition["description"] = cleandoc(description)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sidestream event, one line of JSONL",
        **schema,
    }
