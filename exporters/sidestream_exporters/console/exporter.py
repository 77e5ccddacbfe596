"""The console exporter: what the agents of this program are doing, live, one line a step.

Two ways from an event to a line: `pretty` lays it out for people; `structured` makes a flat dict of it, which a chain
of structlog processors turns into JSON, logfmt or whatever the application's own `processors` make of it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from structlog import DropEvent
from structlog.typing import Processor

from sidestream.diagnostics import warn_once
from sidestream.errors import ConfigurationError
from sidestream.events import AgentEndEvent, AgentStartEvent, StreamEvent
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.yielding import GilYielder
from sidestream.recording.content import ContentPolicy
from sidestream.terminal.streams import layout_for

from .pretty import MAX_RUNS, PrettyLines, Recent
from .structured import RENDERERS, Place, StructuredLine

LINES_A_SLICE = 8
"""Lines laid out, about 100 µs, before the agents' threads get the GIL if the slice is over."""

_SILENT = frozenset({"progress"})
"""Event types without a line: the sums at the end hold the same."""
_SILENT_UNLESS_VERBOSE = _SILENT | {"llm_chunk", "llm_start", "final_result"}


class ConsoleExporter(Exporter):
    """Writes one line for every step of every run: model requests, tools, retries, errors, and a sum at the end.

    A tool has a line when it ends, and one when it starts if it has not ended a moment later: what is still going on
    can be seen, and quick tools take one line. Where no line is open, the run waits for the model.

    Args:
        verbose: Also prompts, instructions, arguments, results, outputs, and text and thinking as they stream.
        format: `pretty` for people; `json` or `logfmt`, one line an event, for programs.
        color: True or False; by default coloured on a terminal, subject to `NO_COLOR` and `FORCE_COLOR`.
        stream: A text stream, or `stderr` or `stdout`, looked up at each write. Default `stderr`.
        content: How much of what people and models wrote may be shown: `full`, `truncated(n)`, `metadata`, `none`.
        processors: structlog processors that each line's dict goes through before it is rendered, to add, change or
            (with `structlog.DropEvent`) leave out; one that returns text has rendered the line itself.

    Raises:
        ConfigurationError: `format`, `stream` or `content` is none of the choices.
    """

    name = "console"
    interval = 0.05

    def __init__(
        self,
        *,
        verbose: bool = False,
        format: str = "pretty",
        color: bool | None = None,
        stream: TextIO | str | None = None,
        content: str | ContentPolicy = "full",
        processors: Sequence[Processor] = (),
    ) -> None:
        formats = ("pretty", *RENDERERS)
        if format not in formats:
            raise ConfigurationError(f"console: format {format!r} does not exist; choose {', '.join(formats)}")
        if isinstance(stream, str) and stream not in ("stderr", "stdout"):
            raise ConfigurationError(
                f"console: stream {stream!r} does not exist; choose stderr, stdout or a text stream"
            )
        self.content = ContentPolicy.parse(content)
        self.skip = _SILENT if verbose else _SILENT_UNLESS_VERBOSE
        self._verbose = verbose
        self._color = color
        self._stream = stream
        self._broken: TextIO | None = None
        self._pretty = PrettyLines(verbose)
        self._structured = (
            None if format == "pretty" and not processors else StructuredLine(format, processors, verbose)
        )
        self._runs: Recent[Place] = Recent(MAX_RUNS)

    def export(self, events: Sequence[StreamEvent]) -> dict[str, int] | None:
        stream = self._out()
        if stream is None:
            for event in events:
                self._place_of(event)
            return {"no_stream": len(events)}
        self._pretty.show_on(layout_for(stream, self._color))
        lines: list[str] = []
        failed = laid_out = 0
        ended = {_call(event) for event in events if event.event_type == "tool_end"}
        yielder = GilYielder()
        for event in events:
            place = self._place_of(event)
            if not self._is_shown(event, ended):
                continue
            try:
                lines += self._lines(event, place)
            except DropEvent:
                pass
            except Exception as error:  # of a processor: the other lines are not to suffer
                failed += 1
                warn_once("console line failed", exception=type(error).__qualname__)
            laid_out += 1
            if laid_out % LINES_A_SLICE == 0:
                yielder.maybe_yield()
        if not self._write(stream, lines):
            return {"stream_failed": len(events)}
        return {"render_failed": failed} if failed else None

    def close(self) -> None:
        """Write the rest of what was still streaming."""
        stream = self._out()
        if stream is not None:
            self._write(stream, self._pretty.remainders())
        self._forget()

    def after_fork(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._runs.clear()
        self._pretty.clear()

    # --- lines ---

    def _place_of(self, event: StreamEvent) -> Place:
        """Where the run of `event` stands among the others; a run whose start was not seen stands alone."""
        if isinstance(event, AgentStartEvent):
            data = event.data
            parent = self._runs.get(data.parent_run_id) if data.parent_run_id else None
            seen = parent.depth + 1 if parent else 1 if data.parent_run_id else 0
            depth = seen if data.depth is None else data.depth
            place = self._runs[event.run_id] = Place(data.root_run_id or event.run_id, depth)
            return place
        known = self._runs.pop if isinstance(event, AgentEndEvent) else self._runs.get
        return known(event.run_id, None) or Place(event.run_id, 0)

    def _is_shown(self, event: StreamEvent, ended: set[tuple[str, str]]) -> bool:
        kind = event.event_type
        return kind not in self.skip and (self._verbose or kind != "tool_start" or _call(event) not in ended)

    def _lines(self, event: StreamEvent, place: Place) -> Sequence[str]:
        if self._structured is not None:
            made = self._structured.line(event, place)
            if isinstance(made, str):
                return (made,)
            event = made
        return self._pretty.lines(event, place.root, place.depth)

    # --- the stream ---

    def _out(self) -> TextIO | None:
        """The stream to write to, looked up late because programs and test runners replace `sys.stderr`."""
        wanted = self._stream
        stream = getattr(sys, wanted or "stderr") if wanted is None or isinstance(wanted, str) else wanted
        return None if stream is None or stream is self._broken else stream

    def _write(self, stream: TextIO, lines: list[str]) -> bool:
        """Everything in one write, so that nothing comes in between. False where the stream does not take it."""
        if not lines:
            return True
        text = "\n".join(lines) + "\n"
        encoding = getattr(stream, "encoding", None)
        if encoding and not text.isascii():
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        try:
            stream.write(text)
            stream.flush()
        except BlockingIOError:  # a pipe that is full for now
            return False
        except (OSError, ValueError) as error:
            self._broken = stream
            warn_once("console stream is gone, no more lines go there", exception=type(error).__qualname__)
            return False
        return True


def _call(event: StreamEvent) -> tuple[str, str]:
    return event.run_id, event.data.tool_call_id or event.data.tool_name
