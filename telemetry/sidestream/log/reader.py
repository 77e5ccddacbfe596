"""Reader of log files: an event for every readable line, a `Problem` with file and line for every other.

A log file may be cut off, damaged, compressed, written by a later version, or not be a log at all. None of these stops
the reader: an unreadable line becomes a `Problem`, and reading continues with the next line.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import cache
from io import FileIO
from math import inf
from pathlib import Path
from typing import Any, Literal, TypeAlias, Union, cast, get_args

import msgspec

from sidestream.errors import UnreadableLogError
from sidestream.events import SCHEMA_VERSION, AnyEvent
from sidestream.logfiles.limits import MAX_LINE, MAX_VALUES
from sidestream.logfiles.locks import is_locked
from sidestream.logfiles.opening import open_regular

from .files import Paths, files_of

MAX_SKIPPED = 4 * MAX_LINE
"""Bytes of too long lines that are unpacked from one compressed file: 3 MB of gzip can hold a line of 3 GB."""
BLOCK = 256 * 1024
"""Bytes read at a time. A block ends with a whole line, so it can be longer."""
LONG_LINE = 1024 * 1024
"""Bytes of a line from which its values are counted before decoding."""

ProblemKind: TypeAlias = Literal["torn", "damaged", "foreign", "future", "huge", "truncated", "unreadable"]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Line or file of a log that could not be read."""

    file: str
    line: int
    """Line number, from 1; 0 if the problem concerns the whole file."""
    kind: ProblemKind
    """`torn`: the end of the line is missing because its writer died. `damaged`: not JSON. `foreign`: JSON, but not an
    event. `future`: an event of a later version. `huge`: more than `MAX_LINE` bytes or `MAX_VALUES` values.
    `truncated`: a compressed file that is cut off. `unreadable`: the file cannot be opened or read.
    """
    message: str
    """Description of the problem. Quotes at most a few words of the line."""


OnProblem: TypeAlias = Callable[[Problem], None]


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """Placeholder for an event of a type that was not requested: checked to be JSON, then discarded."""


class Block(msgspec.Struct, frozen=True, gc=False):
    """Block of whole lines of a file."""

    data: bytes
    offset: int
    """Offset of the first byte in the uncompressed file."""
    line: int
    """Number of the first line."""
    end: int
    next_line: int
    """Number of the line after the block; `end` is the offset of that line."""

    @property
    def lines(self) -> int:
        """Number of lines in the block."""
        return self.next_line - self.line + (not self.data.endswith(b"\n"))

    @classmethod
    def of(cls, data: bytes, offset: int, line: int) -> Block:
        return cls(data, offset, line, offset + len(data), line + data.count(b"\n"))


def read(
    paths: Paths = "runs/", *, types: Collection[str] | None = None, on_problem: OnProblem | None = None
) -> Iterator[AnyEvent]:
    """Events of a log, file by file in order of time, line by line, in bounded memory.

    Args:
        paths: folders, files or globs, as for `log_files`.
        types: event types to return, such as `{"agent_start", "agent_end"}`; None for all. Other events are skipped
            fast.
        on_problem: called for each unreadable line. An incomplete last line is not reported while its writer is alive.

    Raises `ConfigurationError` if a path does not exist, `UnreadableLogError` if a folder or a file that is named
    cannot be read; without `on_problem`, also if any other file cannot be read.
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
    """Decoder of the events of `types`; events of other types become `Skipped`."""
    if types is None:
        return msgspec.json.Decoder(AnyEvent)
    members: list[Any] = []
    for event in get_args(AnyEvent):
        tag = event.__struct_config__.tag
        members.append(event if tag in types else skipped(tag))
    return msgspec.json.Decoder(Union[tuple(members)])  # noqa: UP007


def skipped(tag: str) -> type[Skipped]:
    """Subclass of `Skipped` for the event type `tag`."""
    made = msgspec.defstruct(f"Skipped_{tag}", [], bases=(Skipped,), tag_field="event_type", tag=tag, gc=False)
    return cast(type[Skipped], made)


def decode_block(
    block: Block, decoder: msgspec.json.Decoder[Any], file: str, on_problem: OnProblem | None
) -> list[Any]:
    """Decode the lines of `block` with `decoder`; unreadable lines are reported and left out."""
    try:
        events: list[Any] = decoder.decode_lines(block.data)  # all lines at once: by far the fastest
        if len(events) == block.lines:  # otherwise there are empty lines, or values that span or share lines
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
    """Decode one line. The line holds two events if a writer died just before the newline.

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
    """Lines of `file` from byte `start`, which begins line `line`, in blocks of about `BLOCK` bytes.

    A last line without a newline is returned as a block of its own if it is valid JSON and no writer is active. Raises
    `UnreadableLogError` if the file cannot be read and `on_problem` is None.
    """

    def report(kind: ProblemKind, message: str, at: int) -> None:
        if on_problem is not None:
            on_problem(Problem(file=os.fspath(file), line=at, kind=kind, message=message))

    def report_huge(size: int) -> None:
        report("huge", f"{size:,} bytes, more than the {MAX_LINE:,} that are read", line)

    def is_too_much(data: bytes) -> bool:
        """Whether `data` is one long line with too many values to decode in memory; reports the line if so."""
        if len(data) < LONG_LINE or not _has_too_many_values(data):
            return False
        report("huge", f"more than the {MAX_VALUES:,} values that are read", line)
        return True

    pieces: list[bytes] = []  # of a line whose end has not been read yet
    size = skipped = wasted = 0  # bytes in `pieces`; bytes of a line that is too long; of earlier such lines
    most_skipped = inf
    offset = start
    try:
        for chunk in _chunks(file, start):
            if offset == 0 and not size and chunk.startswith(b"\xef\xbb\xbf"):
                chunk = b"   " + chunk[3:]  # replaces a byte order mark; the spaces keep the offsets
            cut = chunk.rfind(b"\n") + 1
            if skipped and cut:
                first = chunk.find(b"\n") + 1
                report_huge(skipped + first)
                wasted += skipped
                offset, line, skipped = offset + skipped + first, line + 1, 0
                chunk, cut = chunk[first:], cut - first
            if skipped:
                skipped += len(chunk)
                if wasted + skipped > most_skipped:
                    report("huge", f"over {skipped:,} bytes in a compressed file, of which the rest is not read", line)
                    return
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
                most_skipped = MAX_SKIPPED if is_compressed(file) else inf
    except EOFError:
        report("truncated", "the compressed file is cut off here", line)
        return
    except zlib.error:
        report("damaged", "the compressed data is damaged from here on", line)
        return
    except OSError as error:
        # a missing file was renamed or pruned since it was listed
        if on_problem is None and not isinstance(error, FileNotFoundError):
            raise UnreadableLogError.of(os.fspath(file), error) from None
        report("unreadable", error.strerror or str(error), 0)
        return
    if skipped:
        report_huge(skipped)
    rest = b"".join(pieces)
    if rest.strip() and not is_locked(file) and not _has_grown(file, offset + size) and not is_too_much(rest):
        try:
            msgspec.json.decode(rest)
        except NOT_READABLE:
            report("torn", f"{size:,} bytes without an end", line)
        else:
            yield Block.of(rest, offset, line)


def _has_too_many_values(line: bytes) -> bool:
    """Whether a line of JSON has more than `MAX_VALUES` values, counting strings, commas and opening brackets."""
    if line.count(b",") + line.count(b"[") + line.count(b"{") <= MAX_VALUES:
        return False
    values = end = 0
    for text in _TEXT.finditer(line):  # commas and brackets inside strings do not count
        start = text.start()
        values += 1 + line.count(b",", end, start) + line.count(b"[", end, start) + line.count(b"{", end, start)
        end = text.end()
        if values > MAX_VALUES:
            return True
    return values + line.count(b",", end) + line.count(b"[", end) + line.count(b"{", end) > MAX_VALUES


_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')


def _has_grown(file: str | os.PathLike[str], size: int) -> bool:
    """Whether `file` has changed since `size` bytes were read: a writer appended, or moved a torn line aside."""
    try:
        return not is_compressed(file) and os.stat(file).st_size != size
    except OSError:
        return True


def is_compressed(file: str | os.PathLike[str]) -> bool:
    """Whether `file` is gzip, judged by its first bytes. Raises `OSError`."""
    with _opened(file) as source:
        return source.read(2) == _GZIP


def start_of(file: str | os.PathLike[str], size: int) -> bytes:
    """First `size` bytes of `file`, uncompressed; fewer if the file is shorter. Raises `OSError`."""
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
    """Open `file` for reading, if it is a regular file: opening a pipe could block. Raises `OSError`."""
    return FileIO(open_regular(file, os.O_RDONLY, follow_links=True), "rb")


def _chunks(file: str | os.PathLike[str], start: int) -> Iterator[bytes]:
    """Bytes of `file` from `start`, uncompressed. Raises `EOFError` if the file is compressed and cut off."""
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
        if gzip.eof:  # another gzip member follows, or padding
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
