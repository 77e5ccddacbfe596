"""Log for the tests of streams, and a quick garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.support.talking_model import Log


@pytest.fixture(scope="session", autouse=True)
def _quick_collections() -> None:
    # Each run is followed by a collection, so that what it leaves behind shows. What the imports made is left out.
    gc.collect()
    gc.freeze()


@pytest.fixture
def log() -> Iterator[Log]:
    """Sidecar with its exported events; closed after the test."""
    log = Log()
    yield log
    assert log.sidecar.stats().runs_in_progress == 0
    log.sidecar.close()
