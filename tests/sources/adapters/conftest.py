from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.provider_clients import answering
from tests.support.recordings import recording as recording
from tests.support.tapped_streams import Watching, observed_streams


@pytest.fixture
def watching() -> Iterator[Watching]:
    with observed_streams() as watching:
        yield watching


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bypass any configured proxy for 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a server with the `BODY` of the test's module as its only answer."""
    with answering(request.module.BODY) as address:
        yield address
