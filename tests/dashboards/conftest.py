"""The boards are read as Grafana reads them: from the generated files."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "prometheus")]
pytest.register_assert_rewrite("board_files", "prometheus_server")

with warnings.catch_warnings():
    # The classic form, which Grafana 10 to 12 read; the library would rather have the next one.
    warnings.filterwarnings("ignore", message="Prefer using dashboardv2", category=DeprecationWarning)
    import grafana_foundation_sdk.builders.dashboard  # noqa: F401
