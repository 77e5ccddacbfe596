from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

import pytest

import sidestream
from sidestream import InMemoryExporter
from tests.support.sdk_observed import Installed

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
"""Read during the import of litellm, which otherwise downloads its price list."""


@pytest.fixture
def installed() -> Iterator[Installed]:
    memory = InMemoryExporter()
    yield Installed(sidestream.install(memory), memory)
    sidestream.uninstall()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bypass any configured proxy for 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(autouse=True)
def _no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the loading of system certificates in each client, which is slow and unnecessary here."""
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *args, **kwargs: None)
