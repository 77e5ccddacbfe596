"""The console exporter: what the agents of this program are doing, live, one line a step.

One idea: each event that is worth a line becomes a flat dict, and a chain of structlog processors turns that into
text. `format` chooses the last processor of the chain, and `processors` puts others before it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TextIO

from structlog import DropEvent
from structlog.processors import JSONRenderer, LogfmtRenderer
from structlog.typing import EventDict, Processor

from sidestream.diagnostics import warn_once
from sidestream.errors import ConfigurationError
from sidestream.events import AgentStart, Json, StreamEvent, Usage
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.yielding import NAP
from sidestream.recording.content import ContentPolicy
from sidestream.terminal.layout import ASCII, UNICODE, Layout
from sidestream.terminal.text import sanitize

from .pretty import MAX_RUNS, PrettyRenderer, Recent

LINES_A_SLICE = 2
"""Lines rendered, about 100 µs, before the interpreter is handed back to the agents for a moment."""

_NOT_VERBOSE = frozenset({"llm_chunk"})
_QUIET_UNLESS_VERBOSE = frozenset({"llm_chunk", "llm_start", "final_result"})
_BAD = frozenset({"error", "failed", "timed_out"})
_GOOD = frozenset({"ok", "completed", "skipped", "deferred"})
_LEFT_OUT = frozenset({"lengths", "offsets_us", "pid", "host", "span_id", "parent_span_id", "price_version"})


class _Run(NamedTuple):
    root: str
    depth: int


class ConsoleExporter(Exporter):
    """Writes one line for every step of every run: model requests, tools, retries, errors, and a sum at the end.

    A tool has a line when it ends, and one when it starts if it has not ended a moment later: what is still going on
    can be seen, and quick tools take one line. When nothing is said to be going on, the model is being waited for.

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
        if format not in _RENDERERS:
            raise ConfigurationError(f"console: format {format!r} does not exist; choose {', '.join(_RENDERERS)}")
        if isinstance(stream, str) and stream not in ("stderr", "stdout"):
            raise ConfigurationError(
                f"console: stream {stream!r} does not exist; choose stderr, stdout or a text stream"
            )
        self.content = ContentPolicy.parse(content)
        self.skip = frozenset() if verbose else _NOT_VERBOSE
        self._verbose = verbose
        self._color = color
        self._stream = stream
        self._broken: TextIO | None = None
        self._pretty = PrettyRenderer(verbose)
        self._chain: list[Processor] = [*processors, *_RENDERERS[format](self._pretty)]
        self._runs: Recent[_Run] = Recent(MAX_RUNS)

    def export(self, events: Sequence[StreamEvent]) -> dict[str, int] | None:
        stream = self._out()
        if stream is None:
            self._follow(events)
            return {"no_stream": len(events)}
        self._pretty.layout = _layout(stream, self._color)
        lines: list[str] = []
        failed = rendered = 0
        ended = {_call(event) for event in events if event.event_type == "tool_end"}
        for event in events:
            run = self._run_of(event)
            if not self._is_shown(event, ended):
                continue
            try:
                lines.append(self._line(event, run))
            except DropEvent:
                pass
            except Exception as error:  # of a processor: the other lines are not to suffer
                failed += 1
                warn_once("console line failed", exception=type(error).__qualname__)
            rendered += 1
            if rendered % LINES_A_SLICE == 0:
                time.sleep(NAP)
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

    # --- runs ---

    def _run_of(self, event: StreamEvent) -> _Run:
        """Where the run of `event` stands; one whose start was not seen stands alone."""
        data = event.data
        if isinstance(data, AgentStart):
            parent = self._runs.get(data.parent_run_id) if data.parent_run_id else None
            depth = parent.depth + 1 if parent else 1 if data.parent_run_id else 0
            run = self._runs[event.run_id] = _Run(data.root_run_id or event.run_id, depth)
            return run
        known = self._runs.pop if event.event_type == "agent_end" else self._runs.get
        return known(event.run_id, None) or _Run(event.run_id, 0)

    def _follow(self, events: Sequence[StreamEvent]) -> None:
        for event in events:
            self._run_of(event)

    # --- lines ---

    def _is_shown(self, event: StreamEvent, ended: set[tuple[str, str]]) -> bool:
        kind = event.event_type
        if kind == "progress":
            return False  # the sums at the end say it
        if self._verbose:
            return True
        return kind not in _QUIET_UNLESS_VERBOSE and not (kind == "tool_start" and _call(event) in ended)

    def _line(self, event: StreamEvent, run: _Run) -> str:
        fields: Any = _flat(event, run, self._verbose)
        for processor in self._chain:
            fields = processor(None, fields.get("level", "info"), fields)
            if isinstance(fields, str):
                return fields
            if isinstance(fields, bytes | bytearray):
                return fields.decode("utf-8", "backslashreplace")
        raise TypeError("the processors of a console exporter rendered no text")  # pragma: no cover

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


# --- one event, one flat dict --------------------------------------------------------------------------------------


def _flat(event: StreamEvent, run: _Run, verbose: bool) -> EventDict:
    """`event` as one level of plain values, under the names of the contract."""
    data = event.data
    fields: dict[str, Any] = {
        "timestamp": event.timestamp.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": _level(event),
        "event": event.event_type.value,
        "agent": event.agent_name,
        "run_id": event.run_id,
        "seq": event.seq,
        "root_run_id": run.root,
        "depth": run.depth,
    }
    for name in data:
        value = getattr(data, name)
        if name in _LEFT_OUT or (not verbose and name in data.content_fields and name not in ("error", "message")):
            continue
        if isinstance(value, Usage):
            suffix = name.removeprefix("usage")
            fields |= {f"{count}{suffix}": getattr(value, count) for count in value if count != "details"}
        elif name == "time_to_first_token_seconds":
            if value:
                fields[name] = min(value.values())
        elif name == "failed_attempts":
            fields[name] = len(value)
        else:
            fields[name] = value
    return fields


def _level(event: StreamEvent) -> str:
    outcome = event.data.get("outcome")
    if event.event_type == "error" or outcome in _BAD:
        return "error"
    return "warning" if event.event_type == "retry" or (outcome and outcome not in _GOOD) else "info"


# --- the last processors -------------------------------------------------------------------------------------------


def _dumps(value: Json, **options: Any) -> str:
    """JSON in ASCII, which no terminal takes for a command; NaN and infinities, which JSON lacks, become null."""
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        plain = json.loads(json.dumps(value, **options), parse_constant=lambda constant: None)
        return json.dumps(plain)


def _scalars(_logger: Any, _method: str, fields: EventDict) -> EventDict:
    """What logfmt can carry: numbers, booleans, and text without control characters; the rest as JSON."""
    return {
        key: sanitize(value, keep="\n")
        if isinstance(value, str)
        else value
        if isinstance(value, bool | int | float)
        else _dumps(value, default=repr)
        for key, value in fields.items()
        if value is not None
    }


_RENDERERS: dict[str, Callable[[PrettyRenderer], list[Processor]]] = {
    "pretty": lambda pretty: [pretty],
    "json": lambda _: [JSONRenderer(serializer=_dumps)],
    "logfmt": lambda _: [_scalars, LogfmtRenderer(bool_as_flag=False)],
}


# --- the terminal --------------------------------------------------------------------------------------------------


def _layout(stream: TextIO, color: bool | None) -> Layout:
    terminal = _is_terminal(stream)
    return Layout(
        width=_width(stream) if terminal else None,
        color=_wants_color(terminal) if color is None else color,
        glyphs=UNICODE if _can_encode(stream, "".join(UNICODE)) else ASCII,
    )


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # an object that only writes; a closed file
        return False


def _width(stream: TextIO) -> int | None:
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (AttributeError, ValueError, OSError):
        return None


def _wants_color(terminal: bool) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    if sys.platform == "win32" and not any(os.environ.get(v) for v in ("WT_SESSION", "TERM", "ANSICON", "ConEmuANSI")):
        return False  # an old console prints the escapes as they are
    return terminal and os.environ.get("TERM") != "dumb"


def _can_encode(stream: TextIO, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
