"""Missing prerequisites of tests: skipped on a developer's machine, failed in CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def is_missing(reason: str) -> NoReturn:
    """Skip the test for `reason`; fail it with `CI=true`."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
