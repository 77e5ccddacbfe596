"""Fixtures of the page tests: a log, the pages over it, and a real browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from starlette.testclient import TestClient

from tests.support.missing import is_missing
from tests.support.web_client import client_of
from tests.support.web_log import write_log

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
CHROMIUM_ARGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "runs")


@pytest.fixture
def pages(log: Path) -> TestClient:
    return client_of(log)


@pytest.fixture(scope="module")  # Playwright's event loop occupies the thread until the module ends
def browser() -> Iterator[Browser]:
    """Chromium. The tests are skipped on a machine without it; the gate installs it."""
    if not os.path.exists(CHROMIUM):
        is_missing(f"no Chromium at {CHROMIUM} (on Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS, timeout=60_000)
        yield browser
        browser.close()
