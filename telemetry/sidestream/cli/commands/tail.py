"""`sidestream tail`: the end of a log, shown like the output of the console exporter."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Paths, Unread, choosing_runs

if TYPE_CHECKING:
    from sidestream.events import AnyEvent
    from sidestream.log import Filter, RunSummary
    from sidestream.log.forwarding.follow import Follower

LOOK_EVERY = 0.1
"""Seconds between two polls of the log."""
TAIL_BYTES = 256 * 1024
"""Bytes read first at the end of each file to find its last events."""

SILENT = frozenset({"progress"})
SILENT_UNLESS_VERBOSE = SILENT | {"llm_chunk", "llm_start", "final_result"}
"""Event types without a line in the console's output, which do not count as steps."""


@choosing_runs
def tail(
    where: Filter,
    paths: Paths = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show new events until Ctrl-C.")] = False,
    last: Annotated[int, typer.Option("-n", "--last", metavar="N", min=0, help="Begin with the last N steps.")] = 20,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show prompts, arguments and text as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the end of a log; with -f, also new events.

    The output is that of the console exporter, for all processes that write to the log. The outcome of a run in
    progress is unknown: with -f and --outcome, a run is shown when it has ended. With --json: the events, one on each
    line.

    Example:  sidestream tail -n 50

    Example:  sidestream tail -f 'logs/*.jsonl' --agent support --verbose
    """
    from sidestream.events import StreamEventType
    from sidestream.log import Filter, runs
    from sidestream.log.forwarding.follow import Follower

    log = paths or [DEFAULT_LOG]
    unread = Unread()
    silent = frozenset() if as_json else SILENT if verbose else SILENT_UNLESS_VERBOSE
    types = {kind.value for kind in StreamEventType} - (silent - {"llm_start"})  # `llm_start` names the model
    follower = Follower(log, types=types, from_end=True, on_problem=unread) if follow else None
    known = [] if where == Filter() or (follow and not _exists(log)) else runs(log)
    choose = _everything if where == Filter() else Choice(where, known).take
    ids = None if where == Filter() else {run.run_id for run in known if where.matches(run)}

    def is_shown(event: AnyEvent) -> bool:
        return event.event_type not in silent and (ids is None or event.run_id in ids)

    try:
        with _printing(as_json, verbose) as put:
            before = _last_events(log, types, last, is_shown, unread) if not follow or _exists(log) else []
            come = _new(follower)
            # Events written after the follower's first poll are in both lists.
            seen_by_both = set(map(_identity, come))
            old = (chosen for event in before if _identity(event) not in seen_by_both for chosen in choose(event))
            put(list(deque((event for event in old if event.event_type not in silent), maxlen=last)))
            while follower is not None:
                put([chosen for event in come for chosen in choose(event)])
                time.sleep(LOOK_EVERY)
                come = _new(follower)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        unread.report()


def _exists(log: Sequence[str]) -> bool:
    from sidestream.errors import ConfigurationError
    from sidestream.log import log_files

    try:
        return bool(log_files(*log))
    except ConfigurationError:
        return False


def _when(event: AnyEvent) -> Any:
    return event.timestamp


def _new(follower: Follower | None) -> list[AnyEvent]:
    """New events since the last poll, in order of time."""
    batches = follower.poll() if follower is not None else ()
    return sorted((event for batch in batches for event in batch.events), key=_when)


def _identity(event: AnyEvent) -> tuple[Any, ...]:
    return event.run_id, event.seq, event.timestamp


def _everything(event: AnyEvent) -> list[AnyEvent]:
    return [event]


def _last_events(
    log: Sequence[str], types: set[str], last: int, is_shown: Callable[[AnyEvent], bool], unread: Unread
) -> list[AnyEvent]:
    """Events at the end of each file, in order of time: at least the `last` shown ones, and possibly earlier events."""
    from sidestream.log import log_files

    return sorted(
        (event for file in log_files(*log) for event in _end_of(file, types, last, is_shown, unread)), key=_when
    )


def _end_of(
    file: Path, types: set[str], last: int, is_shown: Callable[[AnyEvent], bool], unread: Unread
) -> list[AnyEvent]:
    """End of one file, read from further and further back until `last` of its events are shown."""
    from sidestream.log.reader import Skipped, blocks_of, decode_block, decoder_of

    decoder = decoder_of(frozenset(types))
    compressed = file.suffix == ".gz"  # readable from the beginning only
    size = 0 if compressed else file.stat().st_size
    reach, blocks = TAIL_BYTES, 2
    while True:
        start = max(0, size - reach)  # may be in the middle of a line, whose rest is not an event
        kept = deque(blocks_of(file, unread.file_problem, start=start), maxlen=blocks if compressed else None)
        read_whole = len(kept) < blocks if compressed else start == 0
        events = [
            event
            for block in kept
            for event in decode_block(block, decoder, str(file), None)
            if not isinstance(event, Skipped)
        ]
        if read_whole or sum(map(is_shown, events)) >= last:
            return events
        reach, blocks = 4 * reach, 4 * blocks


class Choice:
    """Filter of events by the filter of their runs, holding events back until the run's match is decided."""

    def __init__(self, where: Filter, known: Iterable[RunSummary]) -> None:
        self._where = where
        self._known = {run.run_id: run for run in known}
        self._held: dict[str, list[AnyEvent]] = {}

    def take(self, event: AnyEvent) -> list[AnyEvent]:
        """Events to show after `event`: none, held-back events, or `event`."""
        if event.event_type == "score" and event.run_id not in self._known:
            return []  # the run is not in this log
        run = self._known[event.run_id] = self._updated(event)
        matches = self._where.matches(run)
        if run.outcome == "running" and (self._where.outcomes or (self._may_match_later and not matches)):
            self._held.setdefault(event.run_id, []).append(event)
            return []
        held = self._held.pop(event.run_id, [])
        return [*held, event] if matches else []

    @property
    def _may_match_later(self) -> bool:
        """Whether a run that does not match yet may match later."""
        where = self._where
        return bool(where.tools or where.models) or where.min_cost is not None or where.slower is not None

    def _updated(self, event: AnyEvent) -> RunSummary:
        from msgspec.structs import replace

        from sidestream.events import AgentEnd, AgentStart, LLMStart, ToolStart
        from sidestream.log import RunSummary

        data: Any = event.data
        run = self._known.get(event.run_id)
        if run is None:
            root = data.root_run_id if isinstance(data, AgentStart) else event.run_id
            run = RunSummary(
                run_id=event.run_id,
                root_run_id=root,
                agent_name=event.agent_name,
                outcome="running",
                started=event.timestamp,
            )
        match data:
            case AgentStart():
                return replace(
                    run,
                    started=event.timestamp,
                    model=data.model,
                    tags=data.tags or {},
                    conversation_id=data.conversation_id,
                )
            case LLMStart() if data.model not in run.models:
                return replace(run, models=[*run.models, data.model])
            case ToolStart() if data.tool_name not in run.tools:
                return replace(run, tools=[*run.tools, data.tool_name])
            case AgentEnd():
                return replace(
                    run,
                    outcome=data.outcome,
                    duration_seconds=data.duration_seconds,
                    cost_usd=data.cost_usd,
                    cost_usd_with_children=data.cost_usd_with_children,
                )
            case _:
                return run


# --- printing ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _printing(as_json: bool, verbose: bool) -> Iterator[Callable[[Sequence[AnyEvent]], object]]:
    """Function that prints events. Raises `OSError` if the output fails, `OutputError` if it is closed."""
    from sidestream.cli.rendering import write
    from sidestream.events import encode_line
    from sidestream.pipeline.registry import make_exporter
    from sidestream.terminal.text import sanitize_json

    def put_lines(events: Sequence[AnyEvent]) -> None:
        write(sanitize_json(b"".join(map(encode_line, events)).decode()))
        sys.stdout.flush()

    write("")
    if as_json:
        yield put_lines
        return
    console = make_exporter(f"console:?stream=stdout&verbose={str(verbose).lower()}")
    try:
        with contextlib.redirect_stdout(_RaisingStream(sys.stdout)):
            try:
                yield console.export
            finally:
                console.close()
    except _OutputFailed as failure:
        raise failure.reason from None


class _OutputFailed(Exception):
    """Carrier of an `OSError` through the console exporter, which would swallow the error and stop writing."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _RaisingStream:
    """Stream whose errors reach the command instead of the console exporter that writes to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            raise _OutputFailed(error) from None

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise _OutputFailed(error) from None
