from __future__ import annotations

import os

import pytest

from sidestream.diagnostics import forget

os.environ["PYDANTIC_AI_NO_BANNER"] = "1"


@pytest.fixture(autouse=True)
def _no_telemetry_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove telemetry settings of this machine from the environment."""
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    forget()
