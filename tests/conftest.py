"""What holds for every test."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")  # shared helpers, whose assertions explain themselves

# The gate judges a change by the same examples each time; a run on a developer's machine looks for new ones.
settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI") == "true":
    settings.load_profile("ci")
