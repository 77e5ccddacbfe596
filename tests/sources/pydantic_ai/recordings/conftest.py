"""Recordings, and how to watch an agent run against them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.provider_server import Exchange, ReadRecording, read_recording

RECORDINGS = Path(os.environ.get("SIDESTREAM_RECORDINGS") or Path(__file__).parents[5] / "shared" / "recordings")


@pytest.fixture(scope="session")
def recording() -> ReadRecording:
    """Reads a recording by name. Skips where the recordings are not at hand; in CI that is a failure."""
    if not RECORDINGS.is_dir():
        reason = f"no recorded provider streams in {RECORDINGS}; set SIDESTREAM_RECORDINGS to their folder"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    read: dict[str, list[Exchange]] = {}

    def get(name: str) -> list[Exchange]:
        if name not in read:
            read[name] = read_recording(RECORDINGS / f"{name}.yaml")
        return read[name]

    return get


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients talk to 127.0.0.1, whatever proxy the machine is set to use."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
