"""Names of log files, and the time of their first event.

20261121T065607Z-4711.jsonl         written by process 4711, started at that second (UTC); `_001` for its second file
20261121T065607Z-4711.jsonl.gz      the same file, finished and compressed; `.gz.part` during compression
20261121T065607Z-4711.jsonl.torn    incomplete lines that a killed writer left in that file
app.jsonl, app-20261121T…jsonl      shared by several processes, and a part of it that was rotated out
"""

from __future__ import annotations

import re
from datetime import datetime

SUFFIXES = (".jsonl", ".jsonl.gz")
"""Suffixes of the log files in a folder. A file that is named explicitly may have any name."""
TORN_SUFFIX = ".torn"
GZIP_PART_SUFFIX = ".gz.part"

STEM = r"\d{8}T\d{6}Z-(\d+)(?:_\d+)?\.jsonl"
"""Regular expression of a dated file name. Its only group is the PID of the writer."""

_FIRST_TIMESTAMP = re.compile(rb'"timestamp":\s*"([^"]{1,40})"')


def pid_in_name(file: str) -> int | None:
    """PID in the name of `file`; None if the name has another form."""
    found = re.search(rf"{STEM}(?:\.gz)?$", file)
    return int(found[1]) if found else None


def first_timestamp(head: bytes) -> float | None:
    """Unix time of the first event in `head`, the first bytes of a log file; None if `head` holds no event."""
    found = _FIRST_TIMESTAMP.search(head)
    try:
        return datetime.fromisoformat(found[1].decode()).timestamp() if found else None
    except (ValueError, OverflowError, OSError):
        return None
