"""`sidestream replay`: exports a log again."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Paths, Unread, choosing_runs
from sidestream.errors import ConfigurationError

if TYPE_CHECKING:
    from sidestream.log import Filter
    from sidestream.log.forwarding.replay import OnProgress, Replayed


@choosing_runs
def replay(
    where: Filter,
    to: Annotated[
        list[str], typer.Option(metavar="SPEC", help="Target exporter, such as otlp or jsonl:copy/. Repeatable.")
    ],
    paths: Paths = None,
    only_missing: Annotated[
        bool,
        typer.Option("--only-missing", help="Send only what the exporter's record lacks: otlp:URL?record=PATH."),
    ] = False,
    speed: Annotated[
        str, typer.Option(metavar="max|1x|10x", help="Original pace or a multiple of it; max for no pauses.")
    ] = "max",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and select, but export nothing.")] = False,
    resume: Annotated[
        str | None, typer.Option(metavar="FILE", help="Checkpoint file to resume from and to save to.")
    ] = None,
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Maximum wait for an unavailable exporter.")
    ] = 60.0,
    stay: Annotated[
        bool, typer.Option("--stay", help="Keep a pull-based endpoint open at the end, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Export a log again with its original times and ids: after an outage, or to a new target.

    Spans keep their ids, so that a repeated replay adds no duplicates. If the application's exporter kept a record of
    its deliveries (otlp:?record=PATH), --only-missing sends just what the record lacks. A run whose process was killed
    ends with outcome lost. Ctrl-C stops a replay; with --resume, the next one continues there.

    The exit code is 0 if everything was delivered, else 1. With --json: a list with the result of each exporter.

    Example:  sidestream replay runs/ --to otlp:http://127.0.0.1:4318 --since 2h

    Example:  sidestream replay runs/ --to 'otlp:http://127.0.0.1:4318?record=delivered.jsonl' --only-missing

    Example:  sidestream replay runs/ --to console --speed 10x --agent support
    """
    from sidestream.cli.rendering import write_json
    from sidestream.log import Filter
    from sidestream.log.forwarding.replay import ReplayPlan
    from sidestream.log.forwarding.replay import replay as do
    from sidestream.pipeline.registry import make_exporter

    if resume is not None and len(to) > 1:
        raise ConfigurationError("--resume: give one --to, because each exporter needs its own checkpoint")
    plan = ReplayPlan(
        where=None if where == Filter() else where,
        only_missing=only_missing,
        speed=_speed(speed),
        dry_run=dry_run,
        stay=stay,
        resume=resume,
        patience=patience,
    )
    stop, unread = threading.Event(), Unread()
    done: list[Replayed] = []
    for spec, exporter in [(spec, make_exporter(spec)) for spec in to]:
        with _progress(spec) as tell:
            done.append(
                _until_interrupted(
                    stop,
                    lambda exporter=exporter, spec=spec, tell=tell: do(  # type: ignore[misc]
                        paths or [DEFAULT_LOG],
                        exporter,
                        plan,
                        spec=spec,
                        stop=stop,
                        on_progress=tell,
                        on_problem=unread if spec == to[0] else None,
                    ),
                )
            )
    if as_json:
        write_json(done)
    else:
        for each in done:
            print(_in_words(each, dry_run))
    unread.report()
    if stop.is_set() and not all(each.complete for each in done):
        raise typer.Exit(130)
    if not dry_run and not all(each.complete and not each.dropped for each in done):
        raise typer.Exit(1)


def _speed(text: str) -> float | None:
    if text.strip().lower() == "max":
        return None
    try:
        speed = float(text.strip().lower().removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise ConfigurationError(f"--speed {text}: write max, or a factor such as 1x or 10x")
    return speed


def _until_interrupted(stop: threading.Event, call: Callable[[], Replayed]) -> Replayed:
    """Run `call` in a thread of its own. The first Ctrl-C sets `stop`, the second aborts.

    A signal handler must not set `stop`: it could interrupt this thread while waiting on the same event.
    """
    result: SimpleQueue[Replayed | BaseException] = SimpleQueue()

    def work() -> None:
        try:
            result.put(call())
        except BaseException as error:
            result.put(error)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Daemonic, so that a hanging thread can be abandoned. Not joined: an interrupted join marks the thread as
        # ended.
        threading.Thread(target=work, name="sidestream-replay", daemon=True).start()
        while True:
            try:
                done = result.get()
                break
            except KeyboardInterrupt:
                if stop.is_set():
                    raise
                stop.set()
    finally:
        signal.signal(signal.SIGTERM, before)
    if isinstance(done, BaseException):
        raise done
    return done


@contextmanager
def _progress(spec: str) -> Iterator[OnProgress | None]:
    """Progress bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from sidestream.pipeline.registry import shown

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(shown(spec), total=None)
        yield lambda read, total: progress.update(task, completed=read, total=total)


def _in_words(done: Replayed, dry_run: bool) -> str:
    target = done.exporter
    if dry_run:
        words = [f"would export {done.chosen:,} of {done.events:,} events of {done.runs_sent:,} runs to {target}"]
    else:
        words = [f"{done.exported:,} of {done.chosen:,} events of {done.runs_sent:,} runs exported to {target}"]
    if done.spans is not None and not dry_run:
        words.append(f"{done.spans:,} spans accepted")
    words += [f"{count:,} dropped ({reason})" for reason, count in done.dropped.items()]
    if done.pending:
        words.append(f"{done.pending:,} not exported, exporter unavailable")
    if done.delivered_before:
        words.append(f"{done.delivered_before:,} delivered before")
    if done.lost_runs:
        words.append(f"{done.lost_runs:,} runs lost")
    if done.duplicates:
        words.append(f"{done.duplicates:,} duplicate lines in the log")
    if not dry_run and not done.complete:
        words.append("not complete")
    return "; ".join(words) + f" ({done.seconds:.1f} s)"
