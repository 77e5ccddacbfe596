"""Search for text in a log: prompts, answers, thoughts, arguments, results, errors, and the names of tools.

A streamed answer is searched as it reads, not as it came: what begins in one chunk and ends in the next is found.
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

from .filters import Filter
from .iteration import when

CONTEXT = 60
"""Characters shown on each side of what was found."""
OPEN_CHUNKS = 20_000
"""Chunks of one answer that are kept until it ends, to be searched as one text."""
FEWEST_RUNS, MOST_RUNS = 50, 800
"""Runs that are looked through at once where the newest come first: few, so that the first places are found soon."""
ALL_OPEN_CHUNKS = 100_000
"""Chunks of all answers that are kept; then the oldest is searched as far as it has come. Lost runs never end."""


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """One place where the text was found."""

    run_id: str
    agent_name: str | None
    event_type: str
    seq: int
    timestamp: datetime
    offset: float
    where: str
    """The field: `prompt`, `text`, `args.query`, `result[2].title`, `tool_name`, …"""
    excerpt: str
    """What stands there, with some of what is around it."""
    start: int
    end: int
    """Where in the excerpt it is."""
    file: str
    line: int
    """Of an answer, where what was found begins. In a stretch with damaged lines, the first line of that stretch."""
    name: str | None = None
    """The model or tool that it is of, if any."""


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
    """Every place of a log's content where `pattern` is found, in the order of the log.

    Of an answer every place, found once it has ended; of any other field the first. The name of a tool is found where
    the tool is called.

    Args:
        paths: folders, files or globs, as for `log_files`.
        pattern: a text, or with `regex` a regular expression of Python's.
        ignore_case: whether `a` finds `A`.
        where: of which runs; None for all.
        newest_first: the run that began last comes first, each with its places in order; the same instructions of
            several runs are found once.
        deadline: time of `time.monotonic` at which to stop looking, found or not.
        on_problem: called for each line that could not be read.

    Raises `ConfigurationError` for an empty or wrong pattern, and where a path leads nowhere; `UnreadableLogError` as
    `read` does.
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
    """Whether every writer of JSON writes `text` as it is."""
    return text.isascii() and text.isprintable() and not set(text) & set('"\\/')


_OTHER_CASES = {"i": (b"\xc4", b"\\u01"), "s": (b"\xc5", b"\\u01"), "k": (b"\xe2\x84\xaa", b"\\u212a")}
"""How `İ`, `ı`, `ſ` and the Kelvin sign, which an ASCII letter finds where case is ignored, begin in JSON."""


def _may_hold(plain: str, ignore_case: bool) -> Callable[[bytes], bool]:
    """Tells of lines whether they may hold `plain`, from their bytes: quicker than to look at every field."""
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
    """What is looked for, and how long."""

    pattern: re.Pattern[str]
    may_hold: Callable[[bytes], bool] | None
    """Test whether the pattern may be in the bytes of a block; None where its fields have to be decoded."""
    deadline: float
    on_problem: OnProblem | None

    def through(self, stretches: Iterable[Stretch], wanted: set[str] | None) -> Iterator[Hit]:
        """The places in blocks of files, of the runs `wanted` or of all."""
        pattern, may_hold = self.pattern, self.may_hold
        everything, answers_only = decoder_of(None), decoder_of(frozenset({"llm_chunk", "llm_end"}))
        answers = _Answers(pattern)
        for file, blocks in stretches:
            for block in blocks:
                if time.monotonic() > self.deadline:
                    return
                # What is not in the bytes can still be in an answer, across two chunks.
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
    """The places run by run, the run that began last first, by way of where the index says that a run's lines are."""
    every = (run for run, _ in store.summaries(where, on_problem=look.on_problem))
    order = sorted(every, key=when, reverse=True)
    instructions: set[tuple[str, str | None]] = set()
    done, size = 0, FEWEST_RUNS
    while done < len(order) and time.monotonic() <= look.deadline:
        some = order[done : done + size]
        done, size = done + size, min(2 * size, MOST_RUNS)
        ids = {run.run_id for run in some}
        hits: dict[str, list[Hit]] = {run.run_id: [] for run in some}
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
    """Chunks of the answers that have not ended."""

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
