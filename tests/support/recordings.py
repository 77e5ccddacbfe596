"""Recorded provider streams, if available."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.missing import is_missing
from tests.support.provider_server import Exchange, ReadRecording, read_recording

RECORDINGS = Path(os.environ.get("SIDESTREAM_RECORDINGS") or Path(__file__).parents[3] / "shared" / "recordings")


@pytest.fixture(scope="session")
def recording() -> ReadRecording:
    """Reader of recordings by name. Skips the test if there are no recordings; fails in CI."""
    if not RECORDINGS.is_dir():
        is_missing(f"no recorded provider streams in {RECORDINGS}; set SIDESTREAM_RECORDINGS to their folder")
    read: dict[str, list[Exchange]] = {}

    def get(name: str) -> list[Exchange]:
        if name not in read:
            read[name] = read_recording(RECORDINGS / f"{name}.yaml")
        return read[name]

    return get
