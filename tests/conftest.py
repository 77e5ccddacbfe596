"""Fixtures and settings of all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.support")  # shared helpers, whose assertions explain themselves

from tests.support.event_loops import close_forgotten_loop  # noqa: E402

# No example has a limit of time: it would fail on a busy machine. The gate judges a change by the same examples each
# time; a run on a developer's machine looks for new ones.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("any machine"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "any machine")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marks of the lines of docs/survives.md: `pytest -k scenario_09` runs the tests of line 9.

    Ctrl-C works in programs that tests start, even if pytest runs in the background of a shell, which ignores SIGINT.
    """
    for number in range(1, 33):
        config.addinivalue_line("markers", f"scenario_{number:02}: proof of line {number} of docs/survives.md")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: programs would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Exempts everything imported so far from garbage collection.

    All test modules together hold a million objects. Each `gc.collect()` of a test, and each scan for agents by
    `install()`, would visit all of them.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def event_loop_is_closed() -> Iterator[None]:
    """No test leaves an event loop behind."""
    yield
    close_forgotten_loop()
