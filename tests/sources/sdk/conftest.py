from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

import pytest

import sidestream
from sidestream import InMemoryExporter
from tests.support.sdk_observed import Installed

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
"""Read while litellm is imported, which otherwise fetches its price list from a network that may not be there."""


@pytest.fixture
def installed() -> Iterator[Installed]:
    memory = InMemoryExporter()
    yield Installed(sidestream.install(memory), memory)
    sidestream.uninstall()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients talk to 127.0.0.1, whatever proxy the machine is set to use."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(autouse=True)
def _no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each client reads the system's certificates, which takes longer than all the rest, and nobody here needs them."""
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *args, **kwargs: None)
