"""`sidestream redact`: a copy of a log with less content."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Paths, Unread, choosing_runs, nothing_found
from sidestream.errors import ConfigurationError

if TYPE_CHECKING:
    from sidestream.events import StreamEvent
    from sidestream.log import Filter
    from sidestream.recording.content import ContentPolicy


@choosing_runs
def redact(
    where: Filter,
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Folder of the copy, new or empty.")],
    paths: Paths = None,
    content: Annotated[
        str, typer.Option(metavar="POLICY", help="Content policy of the copy: none, metadata, truncated(N) or full.")
    ] = "metadata",
    as_json: AsJson = False,
) -> None:
    """Copy a log with less content.

    For passing a log on. Content is prompts, instructions, answers, arguments, results, outputs, error texts and
    payloads. Under any policy, names of agents, models and tools, ids, tags, types, numbers, times and host stay.
    Unreadable lines are left out, because their content is unknown. The copies have the names of the original files,
    which are not changed.

    Example:  sidestream redact runs/ --out clean/ --content metadata

    Example:  sidestream redact --out bug/ --content 'truncated(40)' --outcome error --since 1d
    """
    from sidestream.cli.rendering import busy, write, write_json
    from sidestream.log import Filter, log_files, runs
    from sidestream.recording.content import ContentPolicy
    from sidestream.terminal.numbers import counted

    policy = ContentPolicy.parse(content)
    files = log_files(*(paths or [DEFAULT_LOG]))
    if not files:
        raise nothing_found("this log has no files yet")
    chosen = None if where == Filter() else {run.run_id for run in runs(files, where)}
    folder = _new_folder(out, files)
    unread = Unread()
    events = 0
    with busy(files):
        for file in files:
            target = folder / file.name
            events += copy(file, target, policy, lambda event: chosen is None or event.run_id in chosen, unread)
    if as_json:
        written = [str(folder / file.name) for file in files]
        write_json({"files": written, "events": events, "content": str(policy), "left_out": unread.count})
    else:
        write(f"{counted(events, 'event')} in {counted(len(files), 'file')} in {folder}, content: {policy}\n")
    unread.report()


def _new_folder(out: str, files: list[Path]) -> Path:
    """Folder of the copy, created if missing. Existing files are never overwritten."""
    folder = Path(out).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"redact: --out {out}: exists already: give a new or empty folder")
    names = [file.name for file in files]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigurationError(f"redact: two files are called {min(twice)}: copy one folder at a time")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"redact: --out {out}: cannot be created: {error.strerror}") from None
    return folder


def copy(
    source: Path, target: Path, policy: ContentPolicy, wanted: Callable[[StreamEvent], bool], unread: Unread
) -> int:
    """Write the events of `source` for which `wanted` is true to `target` under `policy`; returns their number."""
    from sidestream.events import encode_line
    from sidestream.log.reader import blocks_of, decode_block, decoder_of
    from sidestream.recording.content import apply_policy

    decoder = decoder_of(None)
    written = 0
    with _opened(target) as file:
        for block in blocks_of(source, unread):
            events = [event for event in decode_block(block, decoder, str(source), unread) if wanted(event)]
            file.write(b"".join(encode_line(apply_policy(event, policy, None)) for event in events))
            written += len(events)
    return written


@contextlib.contextmanager
def _opened(target: Path) -> Iterator[IO[bytes]]:
    """New file for its owner alone, compressed if its name ends in .gz."""
    with os.fdopen(
        os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600), "wb"
    ) as raw:
        if target.suffix != ".gz":
            yield raw
            return
        with gzip.open(raw, "wb", compresslevel=6) as compressed:
            yield compressed  # type: ignore[misc]
