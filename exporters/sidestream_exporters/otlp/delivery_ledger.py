"""Ledger of delivered spans and scores: one JSON line per run and accepted request, `{"run_id": …, "seqs": [0, 3]}`.

A span is identified by the sequence number of its first event, a score by that of its event. Compared with the log, the
ledger shows what an outage lost. A partially accepted request is not recorded: the response does not list what was
accepted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import msgspec

from sidestream.diagnostics import warn_once
from sidestream.errors import ConfigurationError

from .runs import Item


class _Line(msgspec.Struct):
    run_id: str
    seqs: list[int]


class DeliveryLedger:
    """Append-only ledger at `path`, which several processes may share.

    Raises:
        ConfigurationError: `path` is a folder, or its folder does not exist.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        if os.path.isdir(self.path) or not os.path.isdir(os.path.dirname(self.path)):
            raise ConfigurationError(f"otlp: record={path!r} must be a file in a folder that exists")
        self._file: int | None = None

    def note(self, items: Sequence[Item]) -> None:
        """Record `items` as delivered. A failed write is logged; a replay then sends them again, with equal ids."""
        runs: dict[str, list[int]] = {}
        for item in items:
            runs.setdefault(item.run_id, []).append(item.seq)
        lines = msgspec.json.Encoder().encode_lines([_Line(run_id, seqs) for run_id, seqs in runs.items()])
        try:
            if self._file is None:
                self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(self._file, lines)
        except OSError as error:
            warn_once("delivery record cannot be written", self.path, path=self.path, reason=error.strerror)

    def read(self) -> dict[str, set[int]]:
        """Sequence numbers of the delivered spans' first events, by run id. Empty if the file does not exist."""
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
                    except msgspec.MsgspecError:  # the partial line of a killed writer
                        continue
        except FileNotFoundError:
            return

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
