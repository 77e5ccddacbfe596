"""Search for text in a log: prompts, answers, thinking, arguments, results, errors, and names of tools.

The chunks of a streamed answer are joined before the search, so that text across two chunks is found.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from math import inf
from typing import Any

import msgspec

from sidestream.errors import ConfigurationError
from sidestream.events import AnyEvent, Json, LLMChunkEvent, LLMEnd, LLMEndEvent, ToolStart
from sidestream.log.files import Paths
from sidestream.log.open_store import store_of
from sidestream.log.reader import OnProblem, Skipped, decode_block, decoder_of
from sidestream.log.store import RunStore, Stretch

from .filters import Filter, Order

CONTEXT = 60
"""Characters of context on each side of a match."""
OPEN_CHUNKS = 20_000
"""Maximum chunks of one answer that are kept in memory; a longer answer is searched in pieces."""
FEWEST_RUNS, MOST_RUNS = 50, 3_200
"""Runs searched in one batch, newest first: few in the first batch, so that the first hits arrive soon."""
ALL_OPEN_CHUNKS = 100_000
"""Maximum chunks of all unfinished answers in memory; beyond, the oldest answer is searched unfinished. Lost runs never
finish theirs.
"""


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """Match of the searched text."""

    run_id: str
    agent_name: str | None
    event_type: str
    seq: int
    timestamp: datetime
    offset: float
    where: str
    """Path of the field: `prompt`, `text`, `args.query`, `result[2].title`, `tool_name`, …"""
    excerpt: str
    """Matched text with context on both sides."""
    start: int
    end: int
    """Position of the match in `excerpt`: `excerpt[start:end]`."""
    file: str
    line: int
    """Line of the match; for an answer, of its chunk where the match begins. In a block with damaged lines, the block's
    first line.
    """
    name: str | None = None
    """Model or tool of the event; None if it has neither."""


def search(
    paths: Paths,
    pattern: str,
    *,
    regex: bool = False,
    ignore_case: bool = False,
    where: Filter | None = None,
    newest_first: bool = False,
    deadline: float = inf,
    on_problem: OnProblem | None = None,
) -> Iterator[Hit]:
    """Search the content of a log for `pattern`; hits are in the order of the log.

    Every match in an answer is a hit, once the answer has ended; in any other field only the first match. The name of a
    tool is found in its call.

    Args:
        paths: folders, files or globs, as for `log_files`.
        pattern: plain text, or with `regex` a Python regular expression.
        regex: whether `pattern` is a regular expression.
        ignore_case: whether `a` matches `A`.
        where: filter of the runs; None for all.
        newest_first: order hits by run, the latest run first; the same instructions in several runs are one hit.
        deadline: time of `time.monotonic` at which the search stops.
        on_problem: called for each unreadable line.

    Raises `ConfigurationError` for an empty or invalid pattern, or a missing path; `UnreadableLogError` as `read` does.
    """
    if not pattern:
        raise ConfigurationError("search: give a text to look for")
    try:
        compiled = re.compile(pattern if regex else re.escape(pattern), re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise ConfigurationError(f"search: {pattern!r} is no regular expression: {error}") from None
    may_hold = _may_hold(pattern, ignore_case) if not regex and _is_plain(pattern) else None
    look = _Search(compiled, may_hold, deadline, on_problem)
    store = store_of(paths)
    if newest_first:
        return _newest_first(store, look, where)
    wanted = None if where is None else {run.run_id for run, _ in store.summaries(where)}
    return look.through(store.stretches(wanted, on_problem), wanted)


def _is_plain(text: str) -> bool:
    """Whether `text` contains no character that a JSON writer may escape."""
    return text.isascii() and text.isprintable() and not set(text) & set('"\\/')


_OTHER_CASES = {"i": (b"\xc4", b"\\u01"), "s": (b"\xc5", b"\\u01"), "k": (b"\xe2\x84\xaa", b"\\u212a")}
"""Byte prefixes of `İ`, `ı`, `ſ` and the Kelvin sign in JSON, which match an ASCII letter if case is ignored."""


def _may_hold(plain: str, ignore_case: bool) -> Callable[[bytes], bool]:
    """Build a fast test on raw bytes for whether a block may contain `plain`, without decoding its fields."""
    if not ignore_case:
        literal = plain.encode()
        return lambda data: literal in data
    literal = plain.lower().encode()
    others = {form for letter, forms in _OTHER_CASES.items() if letter in plain.lower() for form in forms}

    def may_hold(data: bytes) -> bool:
        data = data.lower()
        return literal in data or any(other in data for other in others)

    return may_hold


@dataclass(frozen=True, slots=True)
class _Search:
    """Search with its compiled pattern and its limits."""

    pattern: re.Pattern[str]
    may_hold: Callable[[bytes], bool] | None
    """Test whether the bytes of a block may contain the pattern; None if every block has to be decoded."""
    deadline: float
    on_problem: OnProblem | None

    def through(self, stretches: Iterable[Stretch], wanted: set[str] | None) -> Iterator[Hit]:
        """Hits in the blocks of `stretches`, in the runs `wanted` or in all."""
        pattern, may_hold = self.pattern, self.may_hold
        everything, answers_only = decoder_of(None), decoder_of(frozenset({"llm_chunk", "llm_end"}))
        answers = _Answers(pattern)
        for file, blocks in stretches:
            if time.monotonic() > self.deadline:  # a file of too long lines has no blocks
                return
            for block in blocks:
                if time.monotonic() > self.deadline:
                    return
                # A match can span two chunks of an answer without being in the bytes of any block.
                decoder = everything if may_hold is None or may_hold(block.data) else answers_only
                events = decode_block(block, decoder, file, self.on_problem)
                whole = len(events) == block.lines
                for index, event in enumerate(events):
                    if isinstance(event, Skipped) or (wanted is not None and event.run_id not in wanted):
                        continue
                    line = block.line + index if whole else block.line
                    if type(event) is LLMChunkEvent:
                        yield from answers.take(event, file, line)
                        continue
                    if type(event) is LLMEndEvent:
                        yield from answers.ended(event.run_id, event.data.request)
                    for place, text, found in _fields(event, pattern):
                        yield _hit(event, place, text, found, file, line)
        yield from answers.all_ended()


def _newest_first(store: RunStore, look: _Search, where: Filter | None) -> Iterator[Hit]:
    """Hits run by run, the latest run first, reading only the lines of each run."""
    instructions: set[tuple[str, str | None]] = set()
    done, size = 0, FEWEST_RUNS
    before: set[str] = set()  # runs of the last page; those at its end come again when new runs have begun
    while time.monotonic() <= look.deadline:
        on_problem = None if done else look.on_problem
        some = store.page(where, Order(), limit=size, offset=done, on_problem=on_problem).runs
        if not some:
            return
        done, size = done + size, min(2 * size, MOST_RUNS)
        hits: dict[str, list[Hit]] = {run.run_id: [] for run in some if run.run_id not in before}
        ids = before = set(hits)
        for hit in look.through(store.stretches(ids), ids):
            hits[hit.run_id].append(hit)
        for its in hits.values():
            for hit in sorted(its, key=lambda hit: hit.seq):
                if hit.where == "instructions":
                    if (hit.excerpt, hit.agent_name) in instructions:
                        continue
                    instructions.add((hit.excerpt, hit.agent_name))
                yield hit


class _Answers:
    """Chunks of unfinished answers."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self._open: dict[tuple[str, int | None], list[tuple[LLMChunkEvent, str, int]]] = {}
        self._kept = 0

    def take(self, event: LLMChunkEvent, file: str, line: int) -> Iterator[Hit]:
        key = (event.run_id, event.data.request)
        chunks = self._open.setdefault(key, [])
        chunks.append((event, file, line))
        self._kept += 1
        if len(chunks) >= OPEN_CHUNKS:
            yield from self.ended(*key)
        while self._kept > ALL_OPEN_CHUNKS:
            yield from self.ended(*next(iter(self._open)))

    def ended(self, run_id: str, request: int | None) -> Iterator[Hit]:
        parts: dict[int | None, list[tuple[LLMChunkEvent, str, int]]] = {}
        kept = self._open.pop((run_id, request), [])
        self._kept -= len(kept)
        for chunk in kept:
            if isinstance(chunk[0].data.text, str):
                parts.setdefault(chunk[0].data.part, []).append(chunk)
        for chunks in parts.values():
            text = "".join(event.data.text for event, _, _ in chunks)
            found = list(self._pattern.finditer(text))
            if not found:
                continue
            ends = list(accumulate(len(event.data.text) for event, _, _ in chunks))
            for match in found:
                event, file, line = chunks[min(bisect_right(ends, match.start()), len(chunks) - 1)]
                yield _hit(event, "text", text, match, file, line)

    def all_ended(self) -> Iterator[Hit]:
        for run_id, request in list(self._open):
            yield from self.ended(run_id, request)


def _fields(event: AnyEvent, pattern: re.Pattern[str]) -> Iterator[tuple[str, str, re.Match[str]]]:
    data: Any = event.data
    for field in data.content_fields:
        yield from _in_value(getattr(data, field), field, pattern)
    if isinstance(data, LLMEnd):
        for number, attempt in enumerate(data.failed_attempts or []):
            yield from _in_value(attempt.error, f"failed_attempts[{number}].error", pattern)
    if isinstance(data, ToolStart):
        yield from _in_value(data.tool_name, "tool_name", pattern)


def _in_value(value: Json, place: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, str, re.Match[str]]]:
    match value:
        case str():
            if (found := pattern.search(value)) is not None:
                yield place, value, found
        case dict():
            for key, item in value.items():
                if (found := pattern.search(key)) is not None:
                    yield f"{place}.{key}", key, found
                yield from _in_value(item, f"{place}.{key}", pattern)
        case list():
            for number, item in enumerate(value):
                yield from _in_value(item, f"{place}[{number}]", pattern)
        case bool() | None:
            pass
        case int() | float():
            text = msgspec.json.encode(value).decode()
            if (found := pattern.search(text)) is not None:
                yield place, text, found


def _hit(event: AnyEvent, place: str, text: str, found: re.Match[str], file: str, line: int) -> Hit:
    start, end = found.span()
    end = min(end, start + 4 * CONTEXT)
    left, right = max(0, start - CONTEXT), min(len(text), end + CONTEXT)
    before, after = "…" if left else "", "…" if right < len(text) else ""
    data = event.data
    return Hit(
        run_id=event.run_id,
        agent_name=event.agent_name,
        event_type=str(event.event_type),
        seq=event.seq,
        timestamp=event.timestamp,
        offset=event.offset,
        where=place,
        excerpt=before + text[left:right] + after,
        start=len(before) + start - left,
        end=len(before) + end - left,
        file=file,
        line=line,
        name=data.get("tool_name") or data.get("model"),
    )
