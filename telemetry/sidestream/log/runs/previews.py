"""Previews of runs for lists: the beginnings of prompt and answer, read from the log because no index has content."""

from __future__ import annotations

import time
from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from sidestream.events import AgentStart, FinalResult, Json
from sidestream.log.files import Paths
from sidestream.log.open_store import store_of
from sidestream.log.reader import Skipped, decode_block, decoder_of
from sidestream.terminal.text import one_line

LENGTH = 160
"""Maximum characters of a prompt or an answer."""


class Preview(NamedTuple):
    """Prompt and answer of a run, each shortened to one line. None if not in the log."""

    question: str | None = None
    answer: str | None = None


def previews(paths: Paths, run_ids: Iterable[str], *, deadline: float = inf) -> dict[str, Preview]:
    """Previews of the runs `run_ids`; incomplete if `deadline`, a time of `time.monotonic`, is reached first."""
    wanted = set(run_ids)
    found: dict[str, Preview] = {}
    decoder = decoder_of(frozenset({"agent_start", "final_result"}))
    for file, blocks in store_of(paths).stretches(wanted) if wanted else ():
        for block in blocks:
            if time.monotonic() > deadline:
                return found
            for event in decode_block(block, decoder, str(file), None):
                if isinstance(event, Skipped) or event.run_id not in wanted:
                    continue
                known = found.get(event.run_id, Preview())
                if isinstance(event.data, AgentStart):
                    found[event.run_id] = known._replace(question=_brief(event.data.prompt))
                elif isinstance(event.data, FinalResult):
                    found[event.run_id] = known._replace(answer=_brief(event.data.output))
    return found


def _brief(value: Json) -> str | None:
    if value is None or (isinstance(value, dict) and value.keys() == {"type", "length"}):
        return None
    if isinstance(value, list):  # a prompt of several parts: join its texts
        value = " ".join(item for item in value if isinstance(item, str)) or value
    return one_line(value, LENGTH)
