"""pytest plugin that observes every agent of the process, content and spans included, and discards the events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

import sidestream
from sidestream import Exporter, Sidecar
from sidestream.events import StreamEvent


class Counting(Exporter):
    """Exporter that counts events, as proof that runs were observed."""

    name = "counting"
    spans = True
    count = 0

    def export(self, events: Sequence[StreamEvent]) -> None:
        self.count += len(events)


class Observation:
    """Sidecar of a test process, and its final counts."""

    def __init__(self) -> None:
        self.exporter = Counting()
        self.sidecar: Sidecar = sidestream.install(self.exporter)
        self.troubles: Counter[str] = Counter()
        count, sidecar = self.sidecar.trouble, self.sidecar

        def trouble(error: Exception) -> None:
            count(error)
            self.troubles[str(sidecar._last_trouble)] += 1

        self.sidecar.trouble = trouble  # type: ignore[method-assign]

    def summary(self) -> str:
        """Report of one line for the end of the process."""
        self.sidecar.flush()
        stats = self.sidecar.stats()
        dropped = sum(stats.exporters["counting"].dropped.values())
        return (
            f"observed {stats.runs} runs, {self.exporter.count} events, {dropped} dropped, "
            f"{stats.recording_errors} recording errors {dict(self.troubles) or ''}"
        )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_KEY] = Observation()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    observation = session.config.stash[_KEY]
    if hasattr(session.config, "workeroutput"):  # a process of pytest-xdist
        session.config.workeroutput["sidestream"] = observation.summary()
    elif not getattr(session.config.option, "numprocesses", None):
        print(f"\n{observation.summary()}")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    print(f"\n{getattr(node, 'workeroutput', {}).get('sidestream', 'a worker died')}")


_KEY = pytest.StashKey[Observation]()
