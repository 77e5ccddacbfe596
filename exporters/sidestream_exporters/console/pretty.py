"""How the console exporter's lines look to people: a structlog renderer, the last processor of its chain.

A line is a table row: time, run, sign, what was done, how long it took, tokens, cost, time to first token, notes.
What is not as it should be says so in a word right after the duration, coloured, with the error's text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from zlib import crc32

from structlog import DropEvent
from structlog.typing import EventDict

from sidestream.terminal.layout import BOLD, DIM, GREEN, RED, TIME, YELLOW, Cell, Layout
from sidestream.terminal.numbers import counted, humanize_count, humanize_seconds, humanize_usd
from sidestream.terminal.text import one_line, paragraphs, sanitize, truncate, wrap

MAX_RUNS = 4_096
"""Runs kept in mind at once; the oldest is forgotten first, and its later lines lose their indent and colour."""
NO_TERMINAL_WIDTH = 200
"""Where text that streams without newlines is broken when it does not go to a terminal."""

RUN_COLORS = ("36", "35", "34", "96", "95", "94")
"""Of the runs, in turn: none that means good or bad."""

V = TypeVar("V")


class Recent(dict[str, V]):
    """A dict that forgets its oldest entry when it would grow beyond `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: str, value: V) -> None:
        if key not in self and len(self) >= self._limit:
            del self[next(iter(self))]
        super().__setitem__(key, value)


@dataclass
class _Page:
    """What is being written about one run."""

    open: tuple[Any, ...] | None = None
    """The part that streams: request, part, kind."""
    rest: str = ""
    """Its text since the last whole line."""
    headed: bool = False
    agent: str | None = None
    depth: int = 0
    root: str = ""
    run_id: str = ""
    streamed: int = 0
    """Checksum of the text of the current request: an output that was just read is not shown again."""
    request: Any = None
    error: tuple[Any, Any] | None = None
    """The last one told."""
    held: EventDict | None = None
    """An error that the next row will most likely tell, since it belongs to a request or a tool that ends with it."""


@dataclass
class PrettyRenderer:
    """Renders the flat dict of one event as one line, and in verbose mode as the lines of its content below it."""

    verbose: bool = False
    layout: Layout = field(default_factory=Layout)
    _pages: Recent[_Page] = field(default_factory=lambda: Recent(MAX_RUNS))
    _colors: Recent[str] = field(default_factory=lambda: Recent(MAX_RUNS))
    _roots: int = 0

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> str:
        page = self._page(event)
        if event["event"] == "llm_chunk":
            lines = [*self._held(page, event), *self._stream(page, event)]
        elif event["event"] == "error":
            lines = [*self._finish_part(page), *self._held(page, event)]
            page.held = event
        else:
            lines = [*self._finish_part(page), *self._held(page, event), *self._step(page, event)]
        if event["event"] == "agent_end":
            self._pages.pop(page.run_id, None)
            self._colors.pop(page.run_id, None)
        if not lines:
            raise DropEvent
        return "\n".join(lines)

    def remainders(self) -> list[str]:
        """The last lines of every run that has not ended: of text that streams, an error that is held."""
        return [line for page in self._pages.values() for line in (*self._finish_part(page), *self._held(page, {}))]

    def clear(self) -> None:
        """Forget all runs."""
        self._pages.clear()
        self._colors.clear()

    def _page(self, event: EventDict) -> _Page:
        run_id = event.get("run_id") or ""
        page = self._pages.get(run_id)
        if page is None:
            page = self._pages[run_id] = _Page(run_id=run_id)
        page.agent, page.depth = event.get("agent"), event.get("depth", 0)
        page.root = event.get("root_run_id") or run_id
        if page.root not in self._colors:
            self._colors[page.root] = RUN_COLORS[self._roots % len(RUN_COLORS)]
            self._roots += 1
        return page

    # --- rows ---

    def _label(self, page: _Page) -> Cell:
        width = self.layout.label
        indent = "  " * min(page.depth, 4)
        tag = sanitize(page.run_id[-4:])
        room = width - len(indent) - len(tag) - 1
        name = truncate(sanitize(page.agent or "agent"), max(room, 3), self.layout.glyphs.more)
        return Cell(f"{indent}{name} {tag}", self._colors[page.root], width)

    def _head(self, page: _Page, event: EventDict) -> list[Cell]:
        moment = datetime.fromisoformat(event["timestamp"]).astimezone()
        return [Cell(f"{moment:%H:%M:%S}", DIM, TIME), self._label(page)]

    def _row(self, page: _Page, event: EventDict, *cells: Cell) -> str:
        return self.layout.row([*self._head(page, event), *cells])

    def _subject(self, text: object, suffix: str = "", style: str = "") -> Cell:
        width = 26 if self.layout.wide else 16
        name = sanitize(str(text))
        if self.layout.width is not None:
            name = truncate(name, width - len(suffix), self.layout.glyphs.more)
        return Cell(name + suffix, style, width)

    def _duration(self, event: EventDict) -> Cell:
        width = 6 if self.layout.wide else 5
        return Cell(humanize_seconds(event.get("duration_seconds")).rjust(width), "", width)

    # --- one event ---

    def _step(self, page: _Page, event: EventDict) -> list[str]:
        kind = event["event"]
        glyphs = self.layout.glyphs
        match kind:
            case "agent_start":
                color = self._colors[page.root]
                sign, subject = Cell(glyphs.start, color), self._subject(event.get("model") or "started", "", BOLD)
                mode = Cell("realtime" if event.get("mode") == "realtime" else "")
                return [
                    self._row(page, event, sign, subject, mode, *_facts(event, "tags")),
                    *self._block(page, "prompt", event.get("prompt")),
                ]
            case "llm_start":
                page.request, page.streamed = event.get("request"), 0
                messages = Cell(counted(event.get("messages"), "message"), DIM)
                row = self._row(
                    page, event, Cell(glyphs.going, DIM), self._model(event), messages, *_facts(event, "settings")
                )
                return [row, *self._block(page, "instructions", event.get("instructions"))]
            case "llm_end":
                return self._end(page, event, self._model(event), self._request_cells(event))
            case "tool_start":
                attempt = event.get("attempt") or 1
                again = Cell(f"attempt {attempt}" if attempt > 1 else "", YELLOW)
                row = self._row(page, event, Cell(glyphs.going, DIM), self._tool(event), again)
                return [row, *self._block(page, "args", event.get("args"))]
            case "tool_end":
                lines = self._end(page, event, self._tool(event), [])
                return lines + self._block(page, "result", event.get("result"))
            case "agent_end":
                return self._run_end(page, event)
            case "retry":
                return self._retry(page, event)
            case "final_result":
                output = event.get("output")
                read = isinstance(output, str) and page.streamed == _checksum(output)
                facts = [*_facts(event, "output_type"), Cell("as above" if read else "", DIM)]
                row = self._row(page, event, Cell(glyphs.note, DIM), self._subject("output"), *facts)
                return [row, *self._block(page, "output", None if read else output)]
            case "custom":
                row = self._row(page, event, Cell(glyphs.note, DIM), self._subject(event.get("name")))
                return [row, *self._block(page, "payload", event.get("payload"))]
            case _:  # a type of an event yet to come
                return [self._row(page, event, Cell(glyphs.note, DIM), self._subject(kind))]

    def _model(self, event: EventDict) -> Cell:
        name = event.get("model") or event.get("response_model") or "model"
        return self._subject(name, f" #{event['request']}" if "request" in event else "")

    def _tool(self, event: EventDict) -> Cell:
        return self._subject(event.get("tool_name"), "()")

    def _end(self, page: _Page, event: EventDict, subject: Cell, cells: list[Cell]) -> list[str]:
        """The rows of something that is over; the outcome is said only where it is not plain success."""
        outcome = event.get("outcome") or "ok"
        if outcome == "ok" and event.get("finish_reason") in _CUT_SHORT:
            outcome = event["finish_reason"]
        sign, style = self._verdict(outcome)
        if outcome == "ok":
            return [self._row(page, event, Cell(sign, style), subject, self._duration(event), *cells)]
        known = [Cell(cell.text, cell.style) for cell in cells if cell.text]
        cells = [Cell(sign, style), subject, self._duration(event), Cell(sanitize(outcome), style), *known]
        return self._rows_with_problem(page, event, cells)

    def _rows_with_problem(self, page: _Page, event: EventDict, cells: list[Cell]) -> list[str]:
        """A row that says what went wrong, at its end or below it; the events after it that report the same name it."""
        kind = sanitize(str(event.get("exception_type") or "").rpartition(".")[2])
        if event.get("outcome") == "retry":
            kind = ""  # the word is there already
        error = event.get("error")
        cause = _cause(event)
        if error is None or page.error == cause:
            return [self._row(page, event, *cells, Cell(kind, elastic=True))]
        page.error = cause
        whole = f"{kind}: {paragraphs(error)}" if kind else paragraphs(error)
        text = Cell(one_line(whole))
        if self.layout.fits([*self._head(page, event), *cells, text]) and (text.text == whole or not self.verbose):
            return [self._row(page, event, *cells, text)]
        return [self._row(page, event, *cells), *self._block(page, "", whole if self.verbose else text.text)]

    def _verdict(self, outcome: str) -> tuple[str, str]:
        match outcome:
            case "ok" | "completed":
                return self.layout.glyphs.ok, GREEN
            case "error" | "failed" | "timed_out":
                return self.layout.glyphs.bad, RED
            case "skipped" | "deferred":
                return self.layout.glyphs.note, DIM
            case _:
                return "!", YELLOW

    def _request_cells(self, event: EventDict) -> list[Cell]:
        skipped = event.get("outcome") == "skipped"
        first = event.get("time_to_first_token_seconds")
        cells = [
            Cell("") if skipped else self._tokens(event),
            Cell("") if skipped else self._cost(event),
            Cell("" if first is None else f"ttft {humanize_seconds(first)}", DIM, 10),
        ]
        if event.get("failed_attempts"):
            cells.append(Cell(counted(event["failed_attempts"], "failed attempt"), YELLOW))
        if event.get("stalls"):
            cells.append(Cell(counted(event["stalls"], "stall"), YELLOW))
        if event.get("cache_read_tokens"):
            cells.append(Cell(f"{humanize_count(event['cache_read_tokens'])} cached", DIM))
        if event.get("reasoning_tokens"):
            cells.append(Cell(f"{humanize_count(event['reasoning_tokens'])} reasoning", DIM))
        return cells

    def _tokens(self, event: EventDict, suffix: str = "") -> Cell:
        width = 14 if self.layout.wide else 9
        sent, got = event.get(f"input_tokens{suffix}"), event.get(f"output_tokens{suffix}")
        if sent is None and got is None:
            return Cell("no usage", YELLOW, width)
        bound = self.layout.glyphs.at_least if event.get("usage_source") == "partial" else ""
        unit = " tok" if self.layout.wide else ""
        return Cell(
            f"{bound}{humanize_count(sent) or '?'}{self.layout.glyphs.to}{humanize_count(got) or '?'}{unit}", "", width
        )

    def _cost(self, event: EventDict, suffix: str = "") -> Cell:
        """The cost, or that it is not known: never a zero that nobody stated."""
        cost = event.get(f"cost_usd{suffix}")
        unpriced = event.get("unpriced") or event.get("unpriced_requests")
        width = 9 if self.layout.wide else 8
        if cost is None:
            return Cell("unpriced" if unpriced else "$?", YELLOW, width)
        bound = self.layout.glyphs.at_least if unpriced or event.get("usage_source") == "partial" else ""
        return Cell(f"{bound}{humanize_usd(cost)}", "", width)

    def _run_end(self, page: _Page, event: EventDict) -> list[str]:
        outcome = event.get("outcome") or "completed"
        sign, style = self._verdict(outcome)
        kind = str(event.get("exception_type") or "").rpartition(".")[2]
        row = self._row(
            page,
            event,
            Cell(sign, style),
            self._subject(outcome, "", f"{BOLD};{style}"),
            self._duration(event),
            *([self._tokens(event), self._cost(event)] if event.get("total_iterations") else []),
            Cell(sanitize(kind), style, elastic=True),
            *(Cell(counted(event[name], word), DIM) for name, word in _RUN_COUNTS if event.get(name)),
        )
        if not event.get("sub_agents"):
            return [row]
        width = self._subject("").width + self.layout.gap + self._duration(event).width
        told = Cell(f"with {counted(event['sub_agents'], 'sub-agent')}", "", width)
        sums = self._tokens(event, "_with_children"), self._cost(event, "_with_children")
        return [row, self._row(page, event, Cell(self.layout.glyphs.total), told, *sums)]

    def _retry(self, page: _Page, event: EventDict) -> list[str]:
        subject = self._tool(event) if event.get("tool_name") else self._subject("output")
        attempt, most = event.get("attempt"), event.get("max_attempts")
        of = f" {attempt}/{most}" if attempt and most else f" {attempt}" if attempt else ""
        cause = Cell(sanitize(f"retry{of} {event.get('cause') or ''}".strip()), YELLOW)
        cells = [Cell(self.layout.glyphs.again, YELLOW), subject, cause]
        message = event.get("message")
        if page.error is not None and page.error[1] == message:
            message = None  # the row of the tool has said it
        return self._rows_with_problem(page, {**event, "error": message}, cells)

    def _held(self, page: _Page, following: EventDict) -> list[str]:
        """The row of the error that was held, unless the event before it or the one `following` it tells the same."""
        event, page.held = page.held, None
        if event is None or _cause(event) in (page.error, _cause(following)):
            return []
        subject = self._tool(event) if event.get("tool_name") else self._subject(event.get("where", "run"))
        return self._rows_with_problem(page, event, [Cell(self.layout.glyphs.bad, RED), subject, Cell("error", RED)])

    # --- content ---

    def _block(self, page: _Page, heading: str, value: object) -> list[str]:
        """`value` below its row, each line marked with its run: runs may take turns."""
        if value is None:
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
        label = self._label(page)
        head = self.layout.paint(f"{heading}:", DIM) + " " if heading else ""
        prefix = self.layout.row([Cell("", width=TIME), label, Cell(self.layout.glyphs.bar, DIM)])
        return f"{prefix}{' ' * self.layout.gap}{head}{self.layout.paint(line, style)}".rstrip()

    def _stream(self, page: _Page, event: EventDict) -> list[str]:
        text, kind = event.get("text"), event.get("kind")
        if not isinstance(text, str) or kind not in ("text", "thinking"):
            return []
        lines: list[str] = []
        part = (event.get("request"), event.get("part"), kind)
        if part != page.open:
            lines = self._finish_part(page)
            page.open, page.headed = part, False
        if page.request != event.get("request"):
            page.request, page.streamed = event.get("request"), 0
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


_CUT_SHORT = ("length", "content_filter", "error")
"""Reasons to finish that an outcome of `ok` must not hide."""
_RUN_COUNTS = (("total_iterations", "request"), ("tool_calls", "tool"), ("retries", "retry"))


def _facts(event: EventDict, *names: str) -> list[Cell]:
    return [Cell(one_line(event[name]), DIM, elastic=True) for name in names if event.get(name) is not None]


def _cause(event: EventDict) -> tuple[Any, Any]:
    return event.get("exception_type"), event.get("error")


def _checksum(text: str, before: int = 0) -> int:
    return crc32(text.encode("utf-8", "surrogatepass"), before)
