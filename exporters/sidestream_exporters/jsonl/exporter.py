"""JSONL exporter: every event as one line of JSON, in files that survive any end of the process.

Only whole lines stay in a file: a batch is appended whole or rolled back, and the partial line of a killed writer is
moved aside before the next append. `sidestream.logfiles` names and locks the files; `files` repairs and rotates them.
"""

from __future__ import annotations

import math
import os
import stat
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Literal, get_args

import msgspec

from sidestream.diagnostics import info, warn, warn_once
from sidestream.errors import ConfigurationError, ExporterUnavailable
from sidestream.events import LLMChunk, StreamEvent, encode_line, split_pieces
from sidestream.logfiles.limits import MAX_LINE
from sidestream.pipeline.exporter import Exporter
from sidestream.pipeline.yielding import GilYielder
from sidestream.recording.content import ContentPolicy, apply_policy

from .files import BLOCK, Compression, DirectoryLog, Log, LogFile, NamedLog, prune, recover, sync_folder
from .one_writer import LogWriter

Chunks = Literal["merged", "all", "none"]

SLICE_EVENTS = 16
"""Events encoded between two offers of the GIL to other threads."""

_NOT_A_FOLDER = (".json", ".ndjson", ".gz", ".log", ".txt")


class JSONLExporter(Exporter):
    """Writes events as JSON Lines.

    Args:
        path: Folder in which each process writes a file of its own (`20261121T065607Z-4711.jsonl`), or a single file
            named `*.jsonl`, which several processes may share.
        chunks: `merged`: one line per `llm_chunk` event, which holds the deltas of up to a tenth of a second;
            `all`: one line per delta; `none`: no `llm_chunk` events at all.
        content: How much of prompts, answers, arguments and results is written: `full`, `truncated(N)`, `metadata`
            or `none`.
        flush_interval: Seconds to gather events before a write.
        fsync: When data is forced to the disk, which only matters in a power cut: `never`, `batch` (before a batch
            counts as exported) or `interval:SECONDS`.
        rotate_bytes: Size in bytes that a file does not exceed: a new one begins before. None for no limit.
        rotate_seconds: Age in seconds at which a new file begins. None for no limit.
        compress: Whether finished files are compressed with gzip.
        keep_files: Number of finished files to keep; older ones are removed. None keeps all.
        keep_seconds: Seconds to keep a finished file after its last write. None keeps all.

    Raises:
        ConfigurationError: An option or the path is invalid, or the path is not writable.
    """

    name = "jsonl"
    durable = True

    def __init__(
        self,
        path: str | os.PathLike[str] = "runs/",
        *,
        chunks: Chunks = "merged",
        content: str | ContentPolicy = "full",
        flush_interval: float = 0.1,
        fsync: str = "never",
        rotate_bytes: int | None = 128 * 1024 * 1024,
        rotate_seconds: float | None = None,
        compress: bool = False,
        keep_files: int | None = None,
        keep_seconds: float | None = None,
    ) -> None:
        if chunks not in get_args(Chunks):
            raise ConfigurationError(f"jsonl: chunks={chunks!r}: choose merged, all or none")
        _require_positive("flush_interval", flush_interval, "seconds, such as 0.1")
        _require_positive("rotate_bytes", rotate_bytes, "a number of bytes, or None")
        _require_positive("rotate_seconds", rotate_seconds, "seconds, or None")
        _require_positive("keep_files", keep_files, "a number of files, or None")
        _require_positive("keep_seconds", keep_seconds, "seconds, or None")
        self.content = ContentPolicy.parse(content)
        self.skip = frozenset({"llm_chunk"}) if chunks == "none" else frozenset()
        self.interval = flush_interval
        self._split = chunks == "all"
        self._sync_every = _parse_fsync(fsync)
        self._rotate_bytes = math.inf if rotate_bytes is None else rotate_bytes
        self._rotate_seconds = math.inf if rotate_seconds is None else rotate_seconds
        self._compress = compress
        self._keep = (keep_files, keep_seconds)
        self._log = _log_at(path)
        self._writer: LogWriter | None = LogWriter(self._log.path)
        self._encode = msgspec.json.Encoder().encode_lines
        self._synced_at = time.monotonic()
        self._unsynced = False
        self._failing = False
        self._to_compress: deque[str] = deque()
        self._compression: Compression | None = None

    @property
    def log_path(self) -> str:
        """Absolute path of the folder, or of the shared file, that the exporter writes."""
        return self._log.path

    # --- the exporter's contract ---

    def start(self) -> None:
        """Create the folder, repair files of killed writers, and remove files beyond the limits.

        Raises:
            ExporterUnavailable: The folder cannot be created or listed.
        """
        try:
            self._log.make_folder()
            finished = recover(self._log)
            prune(self._log, *self._keep)
        except OSError as error:
            raise self._unavailable(error) from error
        if self._compress:
            self._to_compress.extend(finished)

    def export(self, events: Sequence[StreamEvent]) -> None:
        """Append `events`, all or none. Events that another exporter of this process writes to the log are skipped.

        Raises:
            ExporterUnavailable: The file cannot be written: a full disk, a folder that cannot be created again.
        """
        if self._writer is None:  # after close(), or in a forked child
            self._writer = LogWriter(self._log.path)
        events = self._writer.choose(events)
        if not events:
            return
        pieces = self._encode_slices(events)
        size = sum(map(len, pieces))
        try:
            file = self._log.acquire()
            try:
                while self._is_due(file, size) and self._rotate(file):
                    file = self._log.acquire()  # loop: another process may have filled the new shared file already
                self._append(file, pieces)
            finally:
                self._log.release()
        except OSError as error:
            raise self._unavailable(error) from error
        if self._failing:
            self._failing = False
            info("log can be written again", file=file.path)
        self._compress_some(max(2 * BLOCK, 2 * size))

    def flush(self) -> None:
        if self._unsynced and self._log.file is not None:
            self._log.file.sync()
            self._unsynced = False

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self.after_fork()

    def after_fork(self) -> None:
        # The child only closes its descriptors: no data is buffered here, and the parent's descriptors keep the locks.
        self._log.close()
        self._writer = None
        self._unsynced = self._failing = False
        self._to_compress.clear()
        if self._compression is not None:
            self._compression.close()
            self._compression = None

    # --- from events to bytes ---

    def _encode_slices(self, events: Sequence[StreamEvent]) -> list[bytes]:
        """Encoded lines of `events`, in slices; the GIL is offered to other threads after each."""
        pieces: list[bytes] = []
        yielder = GilYielder()
        for start in range(0, len(events), SLICE_EVENTS):
            pieces.append(self._encode_lines(events[start : start + SLICE_EVENTS]))
            yielder.maybe_yield()
        return pieces

    def _encode_lines(self, events: Sequence[StreamEvent]) -> bytes:
        if self._split:
            events = [single for event in events for single in _singles(event)]
        try:
            data = self._encode(events)
        except Exception:  # an event holds a value that JSON cannot represent; encode_line replaces it
            data = b"".join(map(encode_line, events))
        return data if len(data) <= MAX_LINE else b"".join(map(_readable_line, events))

    # --- from bytes to files ---

    def _append(self, file: LogFile, pieces: Sequence[bytes]) -> None:
        before = file.size
        file.append(pieces)
        self._unsynced = self._sync_every is not None
        if self._sync_every is not None and time.monotonic() - self._synced_at >= self._sync_every:
            try:
                file.sync()
                if before == 0:
                    sync_folder(file.path)
            except OSError:
                file.cut(before)  # the pipeline offers the batch again: without the cut its lines would be doubled
                raise
            self._unsynced = False
            self._synced_at = time.monotonic()

    def _is_due(self, file: LogFile, coming: int) -> bool:
        size = file.size
        too_large = size + coming > self._rotate_bytes
        return size > 0 and (too_large or time.time() - file.started > self._rotate_seconds)

    def _rotate(self, file: LogFile) -> bool:
        """Finish `file`; False if rotation fails, since a file beyond the limit is better than no log."""
        try:
            if self._unsynced:
                file.sync()
            finished = self._log.rotate(file)
        except OSError as error:
            reason = error.strerror or str(error)
            warn_once("log file cannot be rotated, going on in it", reason, file=file.path, reason=reason)
            return False
        if self._compress:
            self._to_compress.append(finished)
        prune(self._log, *self._keep)
        return True

    def _compress_some(self, budget: int) -> None:
        """Compress about `budget` bytes. The budget exceeds the bytes just written, so compression keeps up."""
        try:
            while budget > 0 and (self._compression is not None or self._to_compress):
                if self._compression is None:
                    source = LogFile.claim(self._to_compress.popleft())
                    if source is None:
                        continue
                    self._compression = Compression(source)
                if not self._compression.step():
                    self._compression = None
                budget -= BLOCK
        except OSError as error:
            warn_once("log file stays uncompressed", error.strerror or "", reason=error.strerror)
            if self._compression is not None:
                self._compression.close()
                self._compression = None

    def _unavailable(self, error: OSError) -> ExporterUnavailable:
        reason = error.strerror or str(error)
        if not self._failing:
            self._failing = True
            warn("log cannot be written, keeping events and trying again", path=self._log.path, reason=reason)
        return ExporterUnavailable(f"{self._log.path}: {reason}")


def _readable_line(event: StreamEvent) -> bytes:
    """Line of `event`, with content shortened until the line fits `MAX_LINE`, the limit of readers."""
    line = encode_line(event)
    for policy in _SHORTER:
        if len(line) <= MAX_LINE:
            break
        kind = str(event.event_type)
        warn_once("event is too long for a line of the log, its content is shortened", kind, event_type=kind)
        line = encode_line(apply_policy(event, policy, None))
    return line


_SHORTER = (ContentPolicy("truncated", 1_000_000), ContentPolicy("metadata"))


def _singles(event: StreamEvent) -> Iterator[StreamEvent]:
    """One event per delta of a merged `llm_chunk`, each with its own time; any other event unchanged."""
    data = event.data
    if type(data) is not LLMChunk or type(data.text) is not str or not data.lengths or not data.offsets_us:
        yield event
        return
    if len(data.lengths) != len(data.offsets_us) or sum(data.lengths) != len(data.text):
        yield event
        return
    for piece, after in zip(split_pieces(data.text, data.lengths), data.offsets_us, strict=True):
        yield msgspec.structs.replace(
            event,
            timestamp=event.timestamp + timedelta(microseconds=after),
            offset=round(event.offset + after / 1e6, 6),
            data=msgspec.structs.replace(data, text=piece, lengths=[len(piece)], offsets_us=[0]),
        )


# --- settings ------------------------------------------------------------------------------------------------------


def _require_positive(option: str, value: float | None, wanted: str) -> None:
    if value is None and wanted.endswith("None"):
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigurationError(f"jsonl: {option}={value!r}: must be above zero: {wanted}")


def _parse_fsync(fsync: str) -> float | None:
    """Seconds between two fsyncs; None for never. Raises `ConfigurationError`."""
    if fsync == "never":
        return None
    if fsync == "batch":
        return 0.0
    kind, _, seconds = str(fsync).partition(":")
    try:
        if kind == "interval" and 0 < float(seconds) < math.inf:
            return float(seconds)
    except ValueError:
        pass
    raise ConfigurationError(f"jsonl: fsync={fsync!r}: choose never, batch or interval:SECONDS")


def _log_at(path: str | os.PathLike[str]) -> Log:
    """Log at `path`, checked but not created yet. Raises `ConfigurationError` if the path is unusable."""
    given = os.fspath(path)
    if not isinstance(given, str) or not given.strip() or "\0" in given:
        raise ConfigurationError(f"jsonl: path {path!r}: give a folder, or a file whose name ends in .jsonl")
    full = os.path.abspath(os.path.expanduser(given))
    named = full.endswith(".jsonl") and not given.endswith(("/", os.sep)) and not os.path.isdir(full)
    if named and os.path.islink(full):
        raise ConfigurationError(f"jsonl: {full} is a link, which is not written through: give the file itself")
    if os.path.exists(full):
        if named and not stat.S_ISREG(os.stat(full).st_mode):
            raise ConfigurationError(f"jsonl: {full} is not a regular file: give another name, or a folder")
        if not named and not os.path.isdir(full):
            raise ConfigurationError(f"jsonl: {full} is a file: give a folder, or a file whose name ends in .jsonl")
    elif not named and full.endswith(_NOT_A_FOLDER) and not given.endswith(("/", os.sep)):
        raise ConfigurationError(
            f"jsonl: path {given!r} looks like a file: end its name in .jsonl, or write {given}/ for a folder"
        )
    _require_writable(full)
    return NamedLog(full) if named else DirectoryLog(full)


def _require_writable(full: str) -> None:
    place = full
    while not os.path.exists(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    if place != full and not os.path.isdir(place):
        raise ConfigurationError(f"jsonl: {full} cannot be made, since {place} is a file: choose another path")
    if not os.access(place, os.W_OK):
        raise ConfigurationError(f"jsonl: no permission to write {place}: change its mode, or choose another path")
