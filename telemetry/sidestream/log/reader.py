"""Reader of log files: events of every line that can be read, a `Problem` with file and line for every other.

A log file may have been cut off, damaged, compressed, written by a later version or by something else altogether.
None of that stops a reader; each such line is a `Problem`, and the next line is read as if nothing had been.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any, Literal, TypeAlias, Union, cast, get_args

import msgspec

from sidestream.errors import UnreadableLogError
from sidestream.events import SCHEMA_VERSION, AnyEvent
from sidestream.logfiles.limits import MAX_LINE, MAX_VALUES
from sidestream.logfiles.locks import is_locked
from sidestream.logfiles.opening import open_regular

from .files import Paths, files_of

BLOCK = 256 * 1024
"""Bytes read at a time. A block ends with a line, so it can be longer."""
LONG_LINE = 1024 * 1024
"""Bytes of a line from which its values are counted before it is decoded."""

ProblemKind: TypeAlias = Literal["torn", "damaged", "foreign", "future", "huge", "truncated", "unreadable"]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something in a log that could not be read."""

    file: str
    line: int
    """Counted from 1; 0 where it is the file as a whole."""
    kind: ProblemKind
    """`torn`: the end of a line is missing, as its writer died. `damaged`: no JSON. `foreign`: JSON, but no event.
    `future`: an event of a later version. `huge`: of more than `MAX_LINE` bytes or `MAX_VALUES` values.
    `truncated`: compressed, and cut off. `unreadable`: the file cannot be opened or read."""
    message: str
    """What is wrong. Never more than a few words of what the line says."""


OnProblem: TypeAlias = Callable[[Problem], None]


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """Stands for an event nobody asked for: checked to be JSON, then forgotten."""


class Block(msgspec.Struct, frozen=True, gc=False):
    """Whole lines, as they stand in a file."""

    data: bytes
    offset: int
    """Of the first byte in the file, uncompressed."""
    line: int
    """Number of the first line."""
    end: int
    next_line: int
    """Offset and number of the line that comes after."""

    @property
    def lines(self) -> int:
        """Their number."""
        return self.next_line - self.line + (not self.data.endswith(b"\n"))

    @classmethod
    def of(cls, data: bytes, offset: int, line: int) -> Block:
        return cls(data, offset, line, offset + len(data), line + data.count(b"\n"))


def read(
    paths: Paths = "runs/", *, types: Collection[str] | None = None, on_problem: OnProblem | None = None
) -> Iterator[AnyEvent]:
    """The events of a log, file by file in order of time, line by line, in bounded memory.

    Args:
        paths: folders, files or globs, as for `log_files`.
        types: the event types wanted, such as `{"agent_start", "agent_end"}`; None for all. The rest is skipped fast.
        on_problem: called for each line that could not be read. A last line without its end is left for later
            without a word, as long as its writer lives.

    Raises `ConfigurationError` where a path leads nowhere, `UnreadableLogError` where a folder or a file that is named
    cannot be read; without `on_problem`, also where any other file cannot be.
    """
    return _read(files_of(paths), None if types is None else frozenset(types), on_problem)


def _read(files: list[Path], types: frozenset[str] | None, on_problem: OnProblem | None) -> Iterator[AnyEvent]:
    decoder = decoder_of(types)
    for file in files:
        for block in blocks_of(file, on_problem):
            events = decode_block(block, decoder, str(file), on_problem)
            if types is None:
                yield from events
            else:
                yield from [event for event in events if not isinstance(event, Skipped)]


# --- from bytes to events ------------------------------------------------------------------------------------------


@cache
def decoder_of(types: frozenset[str] | None) -> msgspec.json.Decoder[Any]:
    """A decoder of the events of `types`; the others become `Skipped`."""
    if types is None:
        return msgspec.json.Decoder(AnyEvent)
    members: list[Any] = []
    for event in get_args(AnyEvent):
        tag = event.__struct_config__.tag
        members.append(event if tag in types else skipped(tag))
    return msgspec.json.Decoder(Union[tuple(members)])  # noqa: UP007


def skipped(tag: str) -> type[Skipped]:
    """A kind of `Skipped` for the event type `tag`."""
    made = msgspec.defstruct(f"Skipped_{tag}", [], bases=(Skipped,), tag_field="event_type", tag=tag, gc=False)
    return cast(type[Skipped], made)


def decode_block(
    block: Block, decoder: msgspec.json.Decoder[Any], file: str, on_problem: OnProblem | None
) -> list[Any]:
    """What `decoder` makes of the lines of `block`; those that it cannot read are reported, and left out."""
    try:
        events: list[Any] = decoder.decode_lines(block.data)  # at once: by far the fastest
        if len(events) == block.lines:  # else there are empty lines, or values that do not end with their line
            return events
    except NOT_READABLE:
        pass
    events = []
    for number, line in enumerate(block.data.split(b"\n"), block.line):
        try:
            events += decode_line(line, decoder)
        except NOT_READABLE as error:
            if on_problem is not None:
                on_problem(_explain(line, error, file, number))
    return events


NOT_READABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


def decode_line(line: bytes, decoder: msgspec.json.Decoder[Any]) -> list[Any]:
    """What `decoder` makes of one line. Where a writer died just before the newline, it is two events.

    Raises `msgspec.MsgspecError`, `UnicodeError` or `RecursionError`.
    """
    if not line.strip():
        return []
    try:
        return [decoder.decode(line)]
    except msgspec.MsgspecError:
        events: list[Any] = decoder.decode_lines(line)
        return events


class _Version(msgspec.Struct):
    event_type: str
    v: int


def _explain(line: bytes, error: Exception, file: str, number: int) -> Problem:
    message = str(error)[:200]
    kind: ProblemKind = "foreign"
    try:
        plain = msgspec.json.decode(line)
    except NOT_READABLE:
        kind = "damaged"
    else:
        try:
            head = msgspec.convert(plain, _Version)
            if head.v > SCHEMA_VERSION:
                kind, message = "future", f"version {head.v}: a newer Sidestream can read it"
            elif head.event_type not in _KNOWN:
                kind, message = "future", f"event type {head.event_type[:40]!r} is not known to this version"
        except msgspec.ValidationError:
            message = "not an event of Sidestream: " + message
    return Problem(file=file, line=number, kind=kind, message=message)


_KNOWN = {event.__struct_config__.tag for event in get_args(AnyEvent)}


# --- from files to bytes -------------------------------------------------------------------------------------------


def blocks_of(
    file: str | os.PathLike[str], on_problem: OnProblem | None = None, *, start: int = 0, line: int = 1
) -> Iterator[Block]:
    """The lines of `file` from byte `start` on, where line `line` begins, in blocks of about `BLOCK` bytes.

    A last line without a newline comes as a block of its own if it is whole all the same and nobody writes here.

    Raises `UnreadableLogError` where the file cannot be read and there is no `on_problem`.
    """

    def tell(kind: ProblemKind, message: str, at: int) -> None:
        if on_problem is not None:
            on_problem(Problem(file=os.fspath(file), line=at, kind=kind, message=message))

    def tell_huge(size: int) -> None:
        tell("huge", f"{size:,} bytes, more than the {MAX_LINE:,} that are read", line)

    def is_too_much(data: bytes) -> bool:
        """Whether `data` is one long line that cannot be decoded in memory; reported if so."""
        if len(data) < LONG_LINE or not _has_too_many_values(data):
            return False
        tell("huge", f"more than the {MAX_VALUES:,} values that are read", line)
        return True

    pieces: list[bytes] = []  # of a line whose end has not come yet
    size = skipped = 0  # of the pieces; of a line that is too long
    offset = start
    try:
        for chunk in _chunks(file, start):
            if offset == 0 and not size and chunk.startswith(b"\xef\xbb\xbf"):
                chunk = b"   " + chunk[3:]  # a byte order mark; spaces keep the offsets
            cut = chunk.rfind(b"\n") + 1
            if skipped and cut:
                first = chunk.find(b"\n") + 1
                tell_huge(skipped + first)
                offset, line, skipped = offset + skipped + first, line + 1, 0
                chunk, cut = chunk[first:], cut - first
            if skipped:
                skipped += len(chunk)
                continue
            if cut:
                end = chunk.find(b"\n") + 1 if size >= LONG_LINE else 0
                if end and is_too_much(b"".join([*pieces, chunk[:end]])):
                    offset, line = offset + size + end, line + 1
                    pieces, size, chunk, cut = [], 0, chunk[end:], cut - end
            if cut:
                block = Block.of(b"".join([*pieces, chunk[:cut]]), offset, line)
                pieces, size = [], 0
                offset, line = block.end, block.next_line
                yield block
            pieces.append(chunk[cut:])
            size += len(chunk) - cut
            if size > MAX_LINE:
                pieces, size, skipped = [], 0, size
    except EOFError:
        tell("truncated", "the compressed file is cut off here", line)
        return
    except zlib.error:
        tell("damaged", "the compressed data is damaged from here on", line)
        return
    except OSError as error:
        if on_problem is None and not isinstance(error, FileNotFoundError):  # which was renamed or pruned just now
            raise UnreadableLogError.of(os.fspath(file), error) from None
        tell("unreadable", error.strerror or str(error), 0)
        return
    if skipped:
        tell_huge(skipped)
    rest = b"".join(pieces)
    if rest.strip() and not is_locked(file) and not _has_grown(file, offset + size) and not is_too_much(rest):
        try:
            msgspec.json.decode(rest)
        except NOT_READABLE:
            tell("torn", f"{size:,} bytes without an end", line)
        else:
            yield Block.of(rest, offset, line)


def _has_too_many_values(line: bytes) -> bool:
    """Whether a line of JSON has more than `MAX_VALUES` values: texts, and what commas and brackets begin."""
    if line.count(b",") + line.count(b"[") + line.count(b"{") <= MAX_VALUES:
        return False
    values = end = 0
    for text in _TEXT.finditer(line):  # what is within texts does not count
        start = text.start()
        values += 1 + line.count(b",", end, start) + line.count(b"[", end, start) + line.count(b"{", end, start)
        end = text.end()
        if values > MAX_VALUES:
            return True
    return values + line.count(b",", end) + line.count(b"[", end) + line.count(b"{", end) > MAX_VALUES


_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')


def _has_grown(file: str | os.PathLike[str], size: int) -> bool:
    """Whether a writer has gone on, or moved what was torn aside, since `size` bytes were read."""
    try:
        return not is_compressed(file) and os.stat(file).st_size != size
    except OSError:
        return True


def is_compressed(file: str | os.PathLike[str]) -> bool:
    """Whether `file` is gzip, by its first bytes. Raises `OSError`."""
    with _opened(file) as source:
        return source.read(2) == _GZIP


def start_of(file: str | os.PathLike[str], size: int) -> bytes:
    """The first `size` bytes of `file`, uncompressed; fewer where there are no more. Raises `OSError`."""
    found = b""
    try:
        for chunk in _chunks(file, 0):
            found += chunk
            if len(found) >= size:
                break
    except (EOFError, zlib.error):
        pass
    return found[:size]


_GZIP = b"\x1f\x8b"


def _opened(file: str | os.PathLike[str]) -> FileIO:
    """`file`, open for reading; never a pipe, which might be waited for. Raises `OSError`."""
    return FileIO(open_regular(file, os.O_RDONLY, follow_links=True), "rb")


def _chunks(file: str | os.PathLike[str], start: int) -> Iterator[bytes]:
    """The bytes of `file`, uncompressed, from `start` on. Raises `EOFError` where it is compressed and cut off."""
    with _opened(file) as source:
        if source.read(2) == _GZIP:
            source.seek(0)
            yield from _inflated(source, start)
            return
        source.seek(start)
        while chunk := source.read(BLOCK):
            yield chunk


def _inflated(source: FileIO, start: int) -> Iterator[bytes]:
    gzip = zlib.decompressobj(wbits=31)
    position = 0
    while compressed := source.read(BLOCK):
        if gzip.eof:  # another member follows, or padding
            compressed = compressed.lstrip(b"\0")
            if not compressed:
                continue
            gzip = zlib.decompressobj(wbits=31)
        while compressed:
            chunk = gzip.decompress(compressed, BLOCK)
            compressed = gzip.unconsumed_tail
            if gzip.eof and (compressed := gzip.unused_data.lstrip(b"\0")):
                gzip = zlib.decompressobj(wbits=31)
            position += len(chunk)
            if position > start and chunk:
                yield chunk[max(0, len(chunk) - (position - start)) :]
    if not gzip.eof:
        raise EOFError
