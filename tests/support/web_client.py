"""Client of the pages, without a server."""

from __future__ import annotations

from pathlib import Path

from starlette.testclient import TestClient

from sidestream.web.app import make_app


def client_of(log: Path, **settings: object) -> TestClient:
    app = make_app([str(log)], **settings)  # type: ignore[arg-type]
    return TestClient(app, base_url="http://127.0.0.1:8765", follow_redirects=False)
