"""Recordings, and helpers for running an agent against them."""

from __future__ import annotations

import pytest

from tests.support.recordings import recording as recording


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bypass any configured proxy for 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
