"""Terminal lines of a run's steps: one line for each step, followed by its content."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from sidestream.events import Json
from sidestream.events.traceback import place_of, traceback_lines
from sidestream.log import RunLog, RunSummary, Step
from sidestream.terminal.layout import BOLD, DIM, GREEN, RED, YELLOW, Cell, Layout
from sidestream.terminal.numbers import counted, humanize_seconds
from sidestream.terminal.text import display_width, one_line, paragraphs, sanitize, truncate, wrap

from .rendering import cost, incomplete, local, own_cost, own_tokens, score_text, time_bar, tokens

_CUT_SHORT = ("length", "content_filter", "error")
"""Finish reasons that are shown although the outcome is `ok`."""
_LASTING = ("request", "tool", "run")
MAX_INDENT = 8
"""Maximum levels of indentation."""
FOLDED = 300
"""Maximum characters of folded content."""


def head(run: RunLog, layout: Layout) -> Iterator[str]:
    """Header lines of a run: outcome, totals, ids, scores."""
    known = run.summary
    glyph, style = layout.verdict(known.outcome)
    cells = [
        Cell(glyph, style),
        Cell(sanitize(known.agent_name or "agent"), BOLD),
        Cell(known.outcome, style),
        Cell(short_type(known.exception_type) if not known.success else "", style),
        *_sums(known),
    ]
    yield layout.row(cell for cell in cells if cell.text)
    yield from _with_children(known, layout)
    where = [local(known.started), sanitize(known.model or ""), *(sanitize(f"{k}={v}") for k, v in _tags(known))]
    yield layout.row([Cell("  " + "  ".join(fact for fact in where if fact), elastic=True)])
    ids = [f"run {sanitize(known.run_id)}", f"trace {sanitize(known.trace_id)}" if known.trace_id else ""]
    yield layout.row([Cell("  " + "  ".join(each for each in ids if each), DIM, elastic=True)])
    if known.attempt is not None:
        first = f", first attempt in run {sanitize(known.attempt_of or '?')}" if known.attempt > 1 else ""
        yield layout.row([Cell(f"  attempt {known.attempt}{first}", DIM, elastic=True)])
    if known.parent_run_id:
        yield layout.row([Cell(f"  called by run {sanitize(known.parent_run_id)}", DIM, elastic=True)])
    for event in run.scores:
        score = event.data
        comment = "" if score.comment is None else f": {one_line(score.comment, FOLDED)}"
        text = sanitize(f"  score {score_text(score)}{comment}  ({local(event.timestamp)})")
        yield layout.row([Cell(text, elastic=True)])
    if note := incomplete(known):
        yield layout.row([Cell(f"  {note}", YELLOW)])


def _tags(known: RunSummary) -> list[tuple[str, str]]:
    conversation = [("conversation", known.conversation_id)] if known.conversation_id else []
    return [*conversation, *known.tags.items()]


def _sums(known: RunSummary) -> list[Cell]:
    return [
        Cell(humanize_seconds(known.duration_seconds)),
        Cell(own_tokens(known)),
        Cell(own_cost(known)),
        Cell(counted(known.requests, "request"), DIM),
        Cell(counted(known.tool_calls, "tool") if known.tool_calls else "", DIM),
        Cell(counted(known.retries, "retry") if known.retries else "", DIM),
    ]


def _with_children(known: RunSummary, layout: Layout) -> Iterator[str]:
    usage, usd = known.usage_with_children, known.cost_usd_with_children
    if usage is not None or usd is not None:
        agents = counted(known.sub_agents, "sub-agent") if known.sub_agents else "sub-agents"
        spent = tokens(usage, known.is_lower_bound("usage", with_children=True))
        paid = cost(usd, known.is_lower_bound("cost", with_children=True), unpriced=known.unpriced_requests > 0)
        yield layout.row([Cell(f"  with {agents}: {spent}  {paid}".rstrip())])


def short_type(name: str | None) -> str:
    """Last component of an exception's qualified name."""
    return sanitize((name or "").rpartition(".")[2])


class Sheet:
    """Layout of the steps of one run."""

    def __init__(self, layout: Layout, *, whole: float, full: bool) -> None:
        self.layout = layout
        self._whole = whole
        self._full = full
        self._label, self._bar = (36, 30) if layout.wide else (23, 18)
        self._shown_errors: set[tuple[str, str | None, bytes]] = set()
        self._last_answer: str | None = None
        self._last_error: Json = None

    def step(self, depth: int, run: RunLog, step: Step) -> Iterator[str]:
        """Lines of one step; none for an error that the step above has already shown."""
        if step.error is not None or step.exception_type is not None:
            shown = (run.summary.run_id, step.exception_type, msgspec.json.encode(step.error))
            if step.kind == "error" and shown in self._shown_errors:
                return
            self._shown_errors.add(shown)
        yield self._row(depth, run, step)
        yield from self._contents(step, depth)
        # An error of a sub-agent is shown in its own steps, and in the tool that called it.
        if step.kind not in ("error", "run") and (step.error is not None or step.exception_type is not None):
            yield from self._problem(step, depth)

    def _row(self, depth: int, run: RunLog, step: Step) -> str:
        sign, style = self._verdict(step)
        indent = "  " * min(depth, MAX_INDENT)
        room = self._label - len(indent)
        begin = run.start + step.start
        open_ended = step.outcome is None and step.kind in _LASTING
        end = self._whole if open_ended else begin + (step.duration_seconds or 0.0)
        first = step.time_to_first_token_seconds
        bar = time_bar(begin, end, self._whole, self._bar, first=None if first is None else begin + first)
        cells = [
            Cell(indent + sign, style),
            Cell(truncate(subject(step), room, self.layout.glyphs.more), "", room),
            Cell(bar, "" if style == GREEN else style, self._bar),
            Cell(humanize_seconds(step.duration_seconds).rjust(6), "", 6),
            Cell(tokens(step.usage, step.usage_is_lower_bound), "", 9),
            Cell(cost(step.cost_usd, step.cost_is_lower_bound, unpriced=step.unpriced), "", 9),
            *self._words(step, style),
        ]
        return self.layout.row(cells).rstrip()

    def _verdict(self, step: Step) -> tuple[str, str]:
        glyphs = self.layout.glyphs
        match step.kind:
            case "retry":
                return glyphs.again, YELLOW
            case "error":
                return glyphs.fault, RED
            case "custom" | "final_result":
                return glyphs.note, DIM
        outcome = step.outcome
        if outcome is None:
            return glyphs.going, DIM
        if outcome == "ok" and step.finish_reason in _CUT_SHORT:
            return glyphs.caller, YELLOW
        return self.layout.verdict(outcome)

    def _words(self, step: Step, style: str) -> list[Cell]:
        words = []
        outcome = step.outcome
        if outcome in ("ok", "completed"):
            outcome = step.finish_reason if step.finish_reason in _CUT_SHORT else None
        elif outcome is None and step.kind in _LASTING:
            outcome = "no end in the log"
        if outcome:
            words.append(Cell(sanitize(outcome), style))
        if step.time_to_first_token_seconds is not None:
            words.append(Cell(f"ttft {humanize_seconds(step.time_to_first_token_seconds)}", DIM))
        if step.usage is not None and step.usage.cache_read_tokens:
            words.append(Cell(f"{step.usage.cache_read_tokens:,} cached", DIM))
        if step.usage is not None and step.usage.reasoning_tokens:
            words.append(Cell(f"{step.usage.reasoning_tokens:,} reasoning", DIM))
        if step.kind == "retry" and step.attempt:
            words.append(Cell(f"retry {step.attempt}", YELLOW))
        if step.kind == "final_result" and self._is_last_answer(step):
            words.append(Cell("as above", DIM))
        return words

    # --- content ---

    def _is_last_answer(self, step: Step) -> bool:
        """Whether the output of `step` equals the text of the last answer."""
        return step.output is not None and step.output == self._last_answer

    def _problem(self, step: Step, depth: int) -> Iterator[str]:
        kind, text = short_type(step.exception_type), step.error
        self._last_error = text
        value = f"{kind}: {text if isinstance(text, str) else one_line(text)}" if text is not None else kind
        yield from self.content("error", value, depth, RED if step.outcome in ("error", "failed") else YELLOW)
        yield from self._traceback(step, depth)

    def _traceback(self, step: Step, depth: int) -> Iterator[str]:
        """Traceback of an error; folded, the innermost frame in the application's own code."""
        if not step.frames and not step.chain:
            return
        if self._full:
            lines = traceback_lines(step.exception_type, step.error, step.frames, step.chain)
            yield from self.content("traceback", "\n".join(map(sanitize, lines)), depth)
        elif (place := place_of(step.frames)) is not None:
            yield from self.content("at", f"{place.file}:{place.line} in {place.function}", depth)

    def _contents(self, step: Step, depth: int) -> Iterator[str]:
        match step.kind:
            case "request":
                if self._full:
                    yield from self.content("instructions", step.input, depth)
                yield from self._sent(step, depth)
                for part in step.parts:
                    if part.kind == "tool_call":
                        name = sanitize(part.tool_name or "tool")
                        yield from self.content(f"calls {name}", part.text, depth)
                    elif part.kind != "other":
                        yield from self.content(part.kind, part.text, depth)
                        self._last_answer = part.text if part.kind == "text" else self._last_answer
            case "tool":
                if self._full:  # folded, the request shows the arguments
                    yield from self.content("args", step.input, depth)
                yield from self.content("result", step.output, depth)
            case "run":
                yield from self.content("prompt", step.input, depth)
            case "retry":
                if step.output != self._last_error:
                    yield from self.content("message", step.output, depth)
            case "custom":
                yield from self.content("payload", step.output, depth)
            case "error":
                yield from self.content("error", step.error, depth, RED)
                yield from self._traceback(step, depth)
            case "final_result":
                if not self._is_last_answer(step):
                    yield from self.content("output", step.output, depth)

    def _sent(self, step: Step, depth: int) -> Iterator[str]:
        """Messages sent in a request; folded, only references to other runs."""
        sent = step.sent
        if sent is None:
            return
        for each in sent.history:
            if each.run_id is not None or self._full:
                owner = f"run {each.run_id}" if each.run_id is not None else f"request {each.request}"
                yield from self.content("sent", f"+ {counted(each.count, 'message')} of {owner}", depth)
        if sent.rewritten:
            yield from self.content("sent", "history rewritten", depth, YELLOW)
        if not self._full:
            return
        for message in sent.new:
            for part in message.get("parts") or () if isinstance(message, dict) else ():
                kind = sanitize(f"{part.get('part_kind')} {part.get('tool_name') or ''}".strip())
                yield from self.content(f"sent {kind}", part.get("args", part.get("content")), depth)
        if isinstance(sent.tools, list):
            names = [str(tool.get("name")) for tool in sent.tools if isinstance(tool, dict)]
            yield from self.content("tools", sanitize(", ".join(names)), depth)

    def content(self, heading: str, value: Json, depth: int, style: str = "") -> Iterator[str]:
        """Lines of `value` below its step: one line, or unfolded."""
        if value is None:
            return
        begin = "  " * (min(depth, MAX_INDENT) + 1) + self.layout.paint(f"{heading}: ", DIM)
        used = 2 * (min(depth, MAX_INDENT) + 1) + len(heading) + 2
        if not self._full:
            room = max(self.layout.room - used, 20)
            yield begin + self.layout.paint(truncate(one_line(value, FOLDED), room, self.layout.glyphs.more), style)
            return
        indent = "  " * (min(depth, MAX_INDENT) + 2)
        text = paragraphs(_plain(value))
        if "\n" not in text and used + display_width(text) <= self.layout.room:
            yield begin + self.layout.paint(text, style)
            return
        yield begin.rstrip()
        for line in text.split("\n"):
            folded = wrap(line, max(self.layout.room - len(indent), 20)) if self.layout.width else [line]
            for piece in folded:
                yield (indent + self.layout.paint(piece, style)).rstrip()


def _plain(value: Json) -> Any:
    return value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def subject(step: Step) -> str:
    """Title of a step."""
    name = sanitize(step.name)
    match step.kind:
        case "request":
            return f"{name} #{step.request}" if step.request else name
        case "tool":
            return f"{name}()"
        case "run":
            return f"{name} {sanitize(step.run.summary.run_id[-4:])}" if step.run else name
        case "error":
            return short_type(name)
        case "final_result":
            return f"output {name}" if name != "output" else name
        case _:
            return name
