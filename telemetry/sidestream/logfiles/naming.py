"""Names of log files, and the time at which one begins.

20261121T065607Z-4711.jsonl         written by process 4711 from that second (UTC) on; `_001` where it began two
20261121T065607Z-4711.jsonl.gz      the same, finished and compressed; `.gz.part` while that is being done
20261121T065607Z-4711.jsonl.torn    beginnings of lines that a killed writer left there
app.jsonl, app-20261121T…jsonl      shared by several processes, and what was rotated out of it
"""

from __future__ import annotations

import re
from datetime import datetime

SUFFIXES = (".jsonl", ".jsonl.gz")
"""How the files of a folder must end to be taken for a log. A file that is named itself may be called anything."""
TORN_SUFFIX = ".torn"
GZIP_PART_SUFFIX = ".gz.part"

STEM = r"\d{8}T\d{6}Z-(\d+)(?:_\d+)?\.jsonl"
"""Regular expression of a dated name; its one group is the process that wrote it."""

_FIRST_TIMESTAMP = re.compile(rb'"timestamp":\s*"([^"]{1,40})"')


def pid_in_name(file: str) -> int | None:
    """The process that `file` is named after; None where it is named otherwise."""
    found = re.search(rf"{STEM}(?:\.gz)?$", file)
    return int(found[1]) if found else None


def first_timestamp(head: bytes) -> float | None:
    """Unix time of the first event in `head`, the first bytes of a log file; None where there is none."""
    found = _FIRST_TIMESTAMP.search(head)
    try:
        return datetime.fromisoformat(found[1].decode()).timestamp() if found else None
    except (ValueError, OverflowError, OSError):
        return None
