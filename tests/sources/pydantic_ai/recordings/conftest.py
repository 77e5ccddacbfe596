"""Recordings, and how to watch an agent run against them."""

from __future__ import annotations

import pytest

from tests.support.recordings import recording as recording


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients talk to 127.0.0.1, whatever proxy the machine is set to use."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
