from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.tapped_streams import Watching


@pytest.fixture
def watching() -> Iterator[Watching]:
    watching = Watching()
    with watching.sidecar:
        yield watching
    assert watching.sidecar.stats().recording_errors == 0
