"""Fixtures for scripted models and separate programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sidestream.diagnostics import forget


@pytest.fixture(autouse=True)
def _everything_is_said_anew() -> Iterator[None]:
    forget()
    yield
    forget()
