from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.tapped_streams import Watching, observed_streams


@pytest.fixture
def watching() -> Iterator[Watching]:
    with observed_streams() as watching:
        yield watching
