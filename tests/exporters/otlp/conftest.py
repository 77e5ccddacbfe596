from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sidestream.diagnostics import forget
from tests.support.missing import is_missing


@pytest.fixture(autouse=True)
def _no_telemetry_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove OpenTelemetry's environment variables."""
    for name in list(os.environ):
        if name.startswith("OTEL_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    forget()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Paths of a self-signed certificate for loopback, and of its key, as PEM files."""
    folder: Path = tmp_path_factory.mktemp("tls")
    pem, key = str(folder / "cert.pem"), str(folder / "key.pem")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", pem, "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    try:
        subprocess.run([*made, *names], check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        is_missing("openssl is not installed")
    return pem, key
