"""Scripted models and programs of their own, as the tests of other floors have them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidestream.diagnostics import forget

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "contract"), str(TESTS / "hub")]


@pytest.fixture(autouse=True)
def _everything_is_said_anew() -> Iterator[None]:
    forget()
    yield
    forget()
