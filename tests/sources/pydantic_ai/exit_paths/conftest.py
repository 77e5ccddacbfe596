"""Fixtures for tests of exit paths: pydantic-ai without banner, and a fast garbage collector."""

from __future__ import annotations

import gc
import os

import pytest

os.environ["PYDANTIC_AI_NO_BANNER"] = "1"


@pytest.fixture(autouse=True)
def _quick_collections() -> None:
    # Each run is followed by collections, so that what it leaves behind shows. What was there before is left out.
    gc.freeze()
