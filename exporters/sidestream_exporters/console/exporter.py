"""Console exporter: one line per step of each run, written while the run is in progress.

An event becomes a line in one of two modules: `pretty` lays it out for people; `structured` makes it a flat dict, which
structlog processors (the application's own, then the format's) render as JSON or logfmt.
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
"""Lines laid out (about 100 µs) between two offers of the GIL to the agents' threads."""

_SILENT = frozenset({"progress"})
"""Event types without a line: the totals at the end of the run cover them."""
_SILENT_UNLESS_VERBOSE = _SILENT | {"llm_chunk", "llm_start", "final_result"}


class ConsoleExporter(Exporter):
    """Writes one line for every step of every run: model requests, tools, retries, errors, and the totals.

    A tool call has one line when it ends, and another when it starts unless it ends within the same batch: a slow tool
    is visible while it runs, a quick one takes a single line. With no tool line open, the run waits for the model.

    Args:
        verbose: Also prompts, instructions, arguments, results, outputs, and text and thinking as they stream.
        format: `pretty` for people; `json` or `logfmt`, one line an event, for programs.
        color: True or False; None colours on a terminal, subject to `NO_COLOR` and `FORCE_COLOR`.
        stream: A text stream, or `stderr` or `stdout`, looked up at each write. None is `stderr`.
        content: How much of the prompts, answers, arguments and results may be shown: `full`, `truncated(n)`,
            `metadata` or `none`.
        processors: structlog processors, applied to each line's dict before rendering. A processor may add, change or
            drop fields, drop the line (`structlog.DropEvent`), or return the rendered text.

    Raises:
        ConfigurationError: `format`, `stream` or `content` is not a valid choice.
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
            except Exception as error:  # a failing processor must not cost the batch's other lines
                failed += 1
                warn_once("console line failed", exception=type(error).__qualname__)
            laid_out += 1
            if laid_out % LINES_A_SLICE == 0:
                yielder.maybe_yield()
        if not self._write(stream, lines):
            return {"stream_failed": len(events)}
        return {"render_failed": failed} if failed else None

    def close(self) -> None:
        """Write text and errors that are still buffered for unfinished runs."""
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
        """Root run and depth of the event's run. A run without a recorded start is its own root, at depth 0."""
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
        """Stream to write to; None if there is none. Looked up late: programs and test runners replace `sys.stderr`."""
        wanted = self._stream
        stream = getattr(sys, wanted or "stderr") if wanted is None or isinstance(wanted, str) else wanted
        return None if stream is None or stream is self._broken else stream

    def _write(self, stream: TextIO, lines: list[str]) -> bool:
        """Write all lines in one call, so that no other output splits them. False if the stream rejects the write."""
        if not lines:
            return True
        text = "\n".join(lines) + "\n"
        encoding = getattr(stream, "encoding", None)
        if encoding and not text.isascii():
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        try:
            stream.write(text)
            stream.flush()
        except BlockingIOError:  # a full non-blocking pipe, which may drain later
            return False
        except (OSError, ValueError) as error:
            self._broken = stream
            warn_once("console stream is gone, no more lines go there", exception=type(error).__qualname__)
            return False
        return True


def _call(event: StreamEvent) -> tuple[str, str]:
    return event.run_id, event.data.tool_call_id or event.data.tool_name
