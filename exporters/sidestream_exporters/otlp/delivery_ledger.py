"""What was delivered: a line of JSON for each run in each request that was accepted, `{"run_id": …, "seqs": [0, 3]}`.

A span is named by the sequence number of the event that began it. With the log beside it, this tells what an outage
left out. A request that was accepted in part is not noted: nobody says which part.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import msgspec

from sidestream.diagnostics import warn_once
from sidestream.errors import ConfigurationError

from .runs import Span


class _Line(msgspec.Struct):
    run_id: str
    seqs: list[int]


class DeliveryLedger:
    """The record at `path`, to which lines are only ever added; several processes may."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        if os.path.isdir(self.path) or not os.path.isdir(os.path.dirname(self.path)):
            raise ConfigurationError(f"otlp: record={path!r} must be a file in a folder that exists")
        self._file: int | None = None

    def note(self, spans: Sequence[Span]) -> None:
        """These spans have been delivered. Where it cannot be written, they would be sent once more: no harm."""
        runs: dict[str, list[int]] = {}
        for span in spans:
            runs.setdefault(span.run_id, []).append(span.seq)
        lines = msgspec.json.Encoder().encode_lines([_Line(run_id, seqs) for run_id, seqs in runs.items()])
        try:
            if self._file is None:
                self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(self._file, lines)
        except OSError as error:
            warn_once("delivery record cannot be written", self.path, path=self.path, reason=error.strerror)

    def read(self) -> dict[str, set[int]]:
        """By run: the sequence numbers whose spans were delivered. Empty where nothing was yet."""
        delivered: dict[str, set[int]] = {}
        for line in self._lines():
            delivered.setdefault(line.run_id, set()).update(line.seqs)
        return delivered

    def _lines(self) -> Iterator[_Line]:
        decoder = msgspec.json.Decoder(_Line)
        try:
            with open(self.path, "rb") as file:
                for text in file:
                    try:
                        yield decoder.decode(text)
                    except msgspec.MsgspecError:  # the end of a writer that was killed
                        continue
        except FileNotFoundError:
            return

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
