"""The generated programs are played with the stage of the exit paths."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "exits"))
pytest.register_assert_rewrite("playing", "run_log")
