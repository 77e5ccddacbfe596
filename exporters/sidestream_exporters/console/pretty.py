"""Lines for people: each event is a table row, in verbose mode followed by lines of its content.

Columns of a row: time, run, glyph, subject (model, tool), duration, tokens, cost, time to first token, notes.
An outcome other than `ok` follows the duration as a coloured word, with the error's text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from zlib import crc32

from sidestream.events import (
    AgentEnd,
    AgentStart,
    Custom,
    Error,
    FinalResult,
    Json,
    LLMChunk,
    LLMEnd,
    LLMStart,
    Retry,
    Score,
    StreamEvent,
    ToolEnd,
    ToolStart,
    Usage,
    is_lower_bound,
)
from sidestream.terminal.layout import BOLD, DIM, RED, TIME, YELLOW, Cell, Layout
from sidestream.terminal.numbers import counted, humanize_count, humanize_score, humanize_seconds
from sidestream.terminal.text import one_line, paragraphs, sanitize, truncate, wrap

MAX_RUNS = 4_096
"""Runs whose state is kept at once. The oldest is evicted first: its later lines lose their indent and colour."""
NO_TERMINAL_WIDTH = 200
"""Width in columns at which streamed text without newlines is wrapped if the output is not a terminal."""
CUT_SHORT = ("length", "content_filter", "error")
"""Finish reasons shown in place of the outcome `ok`: the answer is incomplete."""

RUN_COLORS = ("36", "35", "34", "96", "95", "94")
"""ANSI colours of root runs, assigned in turn; green, yellow and red are reserved for outcomes."""

V = TypeVar("V")


class Recent(dict[str, V]):
    """Dict of at most `limit` entries; a new key evicts the oldest one."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: str, value: V) -> None:
        if key not in self and len(self) >= self._limit:
            del self[next(iter(self))]
        super().__setitem__(key, value)


_NO_LABEL = Cell("")


@dataclass(slots=True)
class _Page:
    """Display state of one run: the part that streams, its unfinished line, and the last error shown."""

    run_id: str
    root: str
    depth: int
    agent: str | None = None
    label: Cell = _NO_LABEL
    open: tuple[int | None, int | None, str] | None = None
    """Response part that streams (request, part index, kind); None if no part is open."""
    rest: str = ""
    """Text of the open part since its last whole line."""
    headed: bool = False
    streamed: int = 0
    """CRC-32 of the current request's text, so that an output which just streamed is not printed again."""
    request: int | None = None
    error: tuple[str | None, Json] | None = None
    """Exception type and message of the last error shown."""
    delayed_error: StreamEvent | None = None
    """Error event whose row is delayed: the end of its request or tool, which follows, mostly has the same error."""


class PrettyLines:
    """Formatter from events to lines, with the display state of each open run."""

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose
        self.layout = Layout()
        self._pages: Recent[_Page] = Recent(MAX_RUNS)
        self._colors: Recent[str] = Recent(MAX_RUNS)
        self._roots = 0
        self._second: tuple[datetime, Cell] | None = None
        self._rows: dict[type, Callable[[_Page, StreamEvent, Any], list[str]]] = {
            AgentStart: self._agent_start,
            LLMStart: self._llm_start,
            LLMEnd: self._llm_end,
            ToolStart: self._tool_start,
            ToolEnd: self._tool_end,
            Retry: self._retry,
            FinalResult: self._final_result,
            Custom: self._custom,
            Score: self._score,
            AgentEnd: self._agent_end,
        }

    def show_on(self, layout: Layout) -> None:
        """Use `layout` for all further lines."""
        if layout != self.layout:
            self.layout, self._second = layout, None
            for page in self._pages.values():
                page.label = self._label(page)

    def lines(self, event: StreamEvent, root: str, depth: int) -> list[str]:
        """Lines of one event of a run, `depth` levels below the run `root`. May be empty."""
        page = self._page(event, root, depth)
        data = event.data
        if type(data) is LLMChunk:
            return [*self._delayed_error(page, None), *self._stream(page, data)]
        before = self._finish_part(page) if page.open else []
        if page.delayed_error:
            before += self._delayed_error(page, data)
        if type(data) is Error:
            page.delayed_error = event
            return before
        row = self._rows.get(type(data), self._unknown)
        lines = row(page, event, data)
        if type(data) is AgentEnd:
            self._pages.pop(page.run_id, None)
            self._colors.pop(page.run_id, None)
        return before + lines if before else lines

    def remainders(self) -> list[str]:
        """Buffered lines of every unfinished run: streamed text without a newline, a delayed error row."""
        return [
            line
            for page in self._pages.values()
            for line in (*self._finish_part(page), *self._delayed_error(page, None))
        ]

    def clear(self) -> None:
        """Forget all runs."""
        self._pages.clear()
        self._colors.clear()

    # --- rows ---

    def _page(self, event: StreamEvent, root: str, depth: int) -> _Page:
        page = self._pages.get(event.run_id)
        if page is None:
            page = self._pages[event.run_id] = _Page(event.run_id, root, depth)
        if page.label is _NO_LABEL or page.agent != event.agent_name or page.depth != depth:
            page.agent, page.root, page.depth = event.agent_name, root, depth
            page.label = self._label(page)
        return page

    def _label(self, page: _Page) -> Cell:
        """Agent name and last four characters of the run id, in the colour of the root run."""
        if page.root not in self._colors:
            self._colors[page.root] = RUN_COLORS[self._roots % len(RUN_COLORS)]
            self._roots += 1
        width = self.layout.label
        indent = "  " * min(page.depth, 4)
        tag = sanitize(page.run_id[-4:])
        room = width - len(indent) - len(tag) - 1
        name = truncate(sanitize(page.agent or "agent"), max(room, 3), self.layout.glyphs.more)
        return Cell(f"{indent}{name} {tag}", self._colors[page.root], width)

    def _time(self, moment: datetime) -> Cell:
        second = moment.replace(microsecond=0)
        if self._second is None or self._second[0] != second:
            self._second = second, Cell(f"{moment.astimezone():%H:%M:%S}", DIM, TIME)
        return self._second[1]

    def _row(self, page: _Page, event: StreamEvent, *cells: Cell) -> str:
        return self.layout.row((self._time(event.timestamp), page.label, *cells))

    def _subject(self, text: object, suffix: str = "", style: str = "") -> Cell:
        width = 26 if self.layout.wide else 16
        name = sanitize(str(text))
        if self.layout.width is not None:
            name = truncate(name, width - len(suffix), self.layout.glyphs.more)
        return Cell(name + suffix, style, width)

    def _model(self, data: LLMStart | LLMEnd) -> Cell:
        name = data.model or (data.response_model if isinstance(data, LLMEnd) else None) or "model"
        return self._subject(name, f" #{data.request}")

    def _tool(self, data: ToolStart | ToolEnd | Retry | Error) -> Cell:
        return self._subject(data.tool_name, "()")

    def _duration(self, seconds: float | None) -> Cell:
        width = 6 if self.layout.wide else 5
        return Cell(humanize_seconds(seconds).rjust(width), "", width)

    def _tokens(self, usage: Usage | None, at_least: bool) -> Cell:
        width = 14 if self.layout.wide else 9
        text = self.layout.tokens(usage.input_tokens, usage.output_tokens, at_least=at_least) if usage else ""
        if not text:
            return Cell("no usage", YELLOW, width)
        return Cell(f"{text} tok" if self.layout.wide else text, "", width)

    def _cost(self, usd: float | None, at_least: bool, unpriced: bool) -> Cell:
        """Cell of the cost: `unpriced` or `$?` if the cost is unknown, never zero."""
        width = 9 if self.layout.wide else 8
        if usd is None:
            return Cell("unpriced" if unpriced else "$?", YELLOW, width)
        return Cell(self.layout.cost(usd, at_least=at_least), "", width)

    # --- one event ---

    def _agent_start(self, page: _Page, event: StreamEvent, data: AgentStart) -> list[str]:
        glyph = Cell(self.layout.glyphs.start, page.label.style)
        subject = self._subject(data.model or "started", "", BOLD)
        mode = Cell("realtime" if data.mode == "realtime" else "")
        row = self._row(page, event, glyph, subject, mode, *_pairs(data.tags))
        return [row, *self._block(page, "prompt", data.prompt)]

    def _llm_start(self, page: _Page, event: StreamEvent, data: LLMStart) -> list[str]:
        page.request, page.streamed = data.request, 0
        messages = Cell(counted(data.messages, "message"), DIM)
        glyph = Cell(self.layout.glyphs.going, DIM)
        row = self._row(page, event, glyph, self._model(data), messages, *_fact(data.settings))
        return [row, *self._block(page, "instructions", data.instructions)]

    def _llm_end(self, page: _Page, event: StreamEvent, data: LLMEnd) -> list[str]:
        outcome: str = data.outcome
        if outcome == "ok" and data.finish_reason in CUT_SHORT:
            outcome = data.finish_reason or outcome
        cells = [*self._spent(data), *self._notes(data)]
        return self._ended(page, event, data, outcome, self._model(data), cells)

    def _spent(self, data: LLMEnd) -> list[Cell]:
        if data.outcome == "skipped":
            return [Cell(""), Cell("")]
        cost = self._cost(data.cost_usd, is_lower_bound(data, "cost"), bool(data.unpriced))
        return [self._tokens(data.usage, is_lower_bound(data, "usage")), cost]

    def _notes(self, data: LLMEnd) -> list[Cell]:
        first = min(data.time_to_first_token_seconds.values()) if data.time_to_first_token_seconds else None
        cells = [Cell("" if first is None else f"ttft {humanize_seconds(first)}", DIM, 10)]
        if data.failed_attempts:
            cells.append(Cell(counted(len(data.failed_attempts), "failed attempt"), YELLOW))
        if data.stalls:
            cells.append(Cell(counted(data.stalls, "stall"), YELLOW))
        if (usage := data.usage) is not None:
            if usage.cache_read_tokens:
                cells.append(Cell(f"{humanize_count(usage.cache_read_tokens)} cached", DIM))
            if usage.reasoning_tokens:
                cells.append(Cell(f"{humanize_count(usage.reasoning_tokens)} reasoning", DIM))
        return cells

    def _tool_start(self, page: _Page, event: StreamEvent, data: ToolStart) -> list[str]:
        again = Cell(f"attempt {data.attempt}" if (data.attempt or 1) > 1 else "", YELLOW)
        row = self._row(page, event, Cell(self.layout.glyphs.going, DIM), self._tool(data), again)
        return [row, *self._block(page, "args", data.args)]

    def _tool_end(self, page: _Page, event: StreamEvent, data: ToolEnd) -> list[str]:
        lines = self._ended(page, event, data, data.outcome, self._tool(data), [])
        return lines + self._block(page, "result", data.result)

    def _ended(
        self, page: _Page, event: StreamEvent, data: LLMEnd | ToolEnd, outcome: str, subject: Cell, cells: list[Cell]
    ) -> list[str]:
        """Rows of a request or tool call that ended; the outcome is written unless it is `ok`."""
        if outcome in CUT_SHORT and outcome != data.outcome:  # outcome ok, but the answer is incomplete
            glyph, style = self.layout.glyphs.caller, YELLOW
        else:
            glyph, style = self.layout.verdict(outcome)
        duration = self._duration(data.duration_seconds)
        if outcome == "ok":
            return [self._row(page, event, Cell(glyph, style), subject, duration, *cells)]
        known = [Cell(cell.text, cell.style) for cell in cells if cell.text]
        cells = [Cell(glyph, style), subject, duration, Cell(sanitize(outcome), style), *known]
        kind = "" if data.outcome == "retry" else data.exception_type  # the retry's own row shows the exception
        return self._rows_with_problem(page, event, cells, kind, data.error, _cause(data))

    def _retry(self, page: _Page, event: StreamEvent, data: Retry) -> list[str]:
        subject = self._tool(data) if data.tool_name else self._subject("output")
        attempt, most = data.attempt, data.max_attempts
        of = f" {attempt}/{most}" if attempt and most else f" {attempt}" if attempt else ""
        cause = Cell(sanitize(f"retry{of} {data.cause or ''}".strip()), YELLOW)
        cells = [Cell(self.layout.glyphs.again, YELLOW), subject, cause]
        # The tool's row may already show the message.
        message = None if page.error is not None and page.error[1] == data.message else data.message
        return self._rows_with_problem(page, event, cells, None, message, (None, message))

    def _final_result(self, page: _Page, event: StreamEvent, data: FinalResult) -> list[str]:
        output = data.output
        read = isinstance(output, str) and page.streamed == _checksum(output)
        facts = [*_fact(data.output_type), Cell("as above" if read else "", DIM)]
        row = self._row(page, event, Cell(self.layout.glyphs.note, DIM), self._subject("output"), *facts)
        return [row, *self._block(page, "output", None if read else output)]

    def _custom(self, page: _Page, event: StreamEvent, data: Custom) -> list[str]:
        row = self._row(page, event, Cell(self.layout.glyphs.note, DIM), self._subject(data.name))
        return [row, *self._block(page, "payload", data.payload)]

    def _score(self, page: _Page, event: StreamEvent, data: Score) -> list[str]:
        words = [Cell(sanitize(word)) for word in (humanize_score(data.value), data.label or "") if word]
        row = self._row(page, event, Cell(self.layout.glyphs.note, DIM), self._subject(f"score {data.name}"), *words)
        return [row, *self._block(page, "comment", data.comment)]

    def _unknown(self, page: _Page, event: StreamEvent, data: Any) -> list[str]:
        """Row of an event of an unknown type."""
        return [self._row(page, event, Cell(self.layout.glyphs.note, DIM), self._subject(event.event_type.value))]

    def _agent_end(self, page: _Page, event: StreamEvent, data: AgentEnd) -> list[str]:
        glyph, style = self.layout.verdict(data.outcome)
        duration = self._duration(data.duration_seconds)
        unpriced = bool(data.unpriced_requests)
        spent = []
        if data.total_iterations:
            cost = self._cost(data.cost_usd, is_lower_bound(data, "cost"), unpriced)
            spent = [self._tokens(data.usage, is_lower_bound(data, "usage")), cost]
        counts = ((data.total_iterations, "request"), (data.tool_calls, "tool"), (data.retries, "retry"))
        row = self._row(
            page,
            event,
            Cell(glyph, style),
            self._subject(data.outcome, "", f"{BOLD};{style}"),
            duration,
            *spent,
            Cell(sanitize((data.exception_type or "").rpartition(".")[2]), style, elastic=True),
            *(Cell(counted(number, noun), DIM) for number, noun in counts if number),
        )
        if not data.sub_agents:
            return [row]
        width = self._subject("").width + self.layout.gap + duration.width
        children = Cell(f"with {counted(data.sub_agents, 'sub-agent')}", "", width)
        usage = self._tokens(data.usage_with_children, is_lower_bound(data, "usage", with_children=True))
        at_least = is_lower_bound(data, "cost", with_children=True)
        cost = self._cost(data.cost_usd_with_children, at_least, unpriced)
        return [row, self._row(page, event, Cell(self.layout.glyphs.total), children, usage, cost)]

    # --- problems ---

    def _rows_with_problem(
        self,
        page: _Page,
        event: StreamEvent,
        cells: list[Cell],
        exception_type: str | None,
        error: Json,
        cause: tuple[str | None, Json],
    ) -> list[str]:
        """Row with the error's message at its end, or below; only the exception type if the error was shown before."""
        kind = sanitize((exception_type or "").rpartition(".")[2])
        if error is None or page.error == cause:
            return [self._row(page, event, *cells, Cell(kind, elastic=True))]
        page.error = cause
        whole = f"{kind}: {paragraphs(error)}" if kind else paragraphs(error)
        text = Cell(one_line(whole))
        row = [self._time(event.timestamp), page.label, *cells, text]
        if self.layout.fits(row) and (text.text == whole or not self.verbose):
            return [self.layout.row(row)]
        return [self._row(page, event, *cells), *self._block(page, "", whole if self.verbose else text.text)]

    def _delayed_error(self, page: _Page, following: Any) -> list[str]:
        """Row of the delayed error event, unless the last row or the event `following` shows the same error."""
        event, page.delayed_error = page.delayed_error, None
        if event is None:
            return []
        data: Error = event.data
        cause = _cause(data)
        if cause == page.error or (isinstance(following, LLMEnd | ToolEnd | Error) and cause == _cause(following)):
            return []
        subject = self._tool(data) if data.tool_name else self._subject(data.where)
        cells = [Cell(self.layout.glyphs.fault, RED), subject, Cell("error", RED)]
        return self._rows_with_problem(page, event, cells, data.exception_type, data.error, cause)

    # --- content ---

    def _block(self, page: _Page, heading: str, value: object) -> list[str]:
        """Lines of `value` below its row in verbose mode, each labelled with its run, since runs interleave."""
        if value is None or not (self.verbose or not heading):
            return []
        lines = [piece for line in paragraphs(value).split("\n") for piece in self._fold(line, heading)]
        return [self._content(page, line, heading if number == 0 else "") for number, line in enumerate(lines)]

    def _room(self, heading: str) -> int | None:
        if self.layout.width is None:
            return None
        return max(self.layout.room - self.layout.indent - (len(heading) + 2 if heading else 0), 20)

    def _fold(self, line: str, heading: str) -> list[str]:
        room = self._room(heading)
        return [line] if room is None else list(wrap(line, room))

    def _content(self, page: _Page, line: str, heading: str = "", style: str = "") -> str:
        head = self.layout.paint(f"{heading}:", DIM) + " " if heading else ""
        prefix = self.layout.row([Cell("", width=TIME), page.label, Cell(self.layout.glyphs.bar, DIM)])
        return f"{prefix}{' ' * self.layout.gap}{head}{self.layout.paint(line, style)}".rstrip()

    def _stream(self, page: _Page, data: LLMChunk) -> list[str]:
        text, kind = data.text, data.kind
        if not isinstance(text, str) or kind not in ("text", "thinking"):
            return []
        lines: list[str] = []
        part = (data.request, data.part, kind)
        if part != page.open:
            lines = self._finish_part(page)
            page.open, page.headed = part, False
        if page.request != data.request:
            page.request, page.streamed = data.request, 0
        if kind == "text":
            page.streamed = _checksum(text, page.streamed)
        *whole, page.rest = (page.rest + text).split("\n")
        for line in whole:
            lines += self._streamed(page, self._fold(paragraphs(line.removesuffix("\r")), kind))
        room = self._room(kind) or NO_TERMINAL_WIDTH
        if len(page.rest) > room:
            *full, page.rest = wrap(paragraphs(page.rest), room)
            lines += self._streamed(page, full)
        return lines

    def _streamed(self, page: _Page, lines: list[str]) -> list[str]:
        shown = []
        for line in lines:
            kind = page.open[2] if page.open else "text"
            shown.append(self._content(page, line, "" if page.headed else kind, DIM if kind == "thinking" else ""))
            page.headed = True
        return shown

    def _finish_part(self, page: _Page) -> list[str]:
        rest, page.rest = page.rest, ""
        lines = self._streamed(page, self._fold(paragraphs(rest), page.open[2])) if rest and page.open else []
        page.open = None
        return lines


def _fact(value: Json) -> list[Cell]:
    return [] if value is None else [Cell(one_line(value), DIM, elastic=True)]


def _pairs(tags: Mapping[str, str] | None) -> list[Cell]:
    """Cells of the tags, written `tenant=acme` as in the other displays."""
    return [Cell(one_line(f"{name}={value}"), DIM, elastic=True) for name, value in (tags or {}).items()]


def _cause(data: LLMEnd | ToolEnd | Error) -> tuple[str | None, Json]:
    return data.exception_type, data.error


def _checksum(text: str, before: int = 0) -> int:
    return crc32(text.encode("utf-8", "surrogatepass"), before)
