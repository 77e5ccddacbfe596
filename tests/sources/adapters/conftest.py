from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.recordings import recording as recording
from tests.support.tapped_streams import Watching


@pytest.fixture
def watching() -> Iterator[Watching]:
    watching = Watching()
    with watching.sidecar:
        yield watching
    assert watching.sidecar.stats().recording_errors == 0


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients talk to 127.0.0.1, whatever proxy the machine is set to use."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
