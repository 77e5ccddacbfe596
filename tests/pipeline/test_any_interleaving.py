"""Any interleaving of events, faults, hangs, flushes, forks and closes: balanced statistics, and each event once."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidestream.pipeline import subscription as subscription_module
from sidestream.pipeline import workers as workers_module
from sidestream.pipeline.assembler import Emit
from sidestream.pipeline.pipeline import Pipeline
from tests.support.faulty_exporters import BEHAVIOURS, PAYLOADS, SAFETY, Fickle, an_event, is_balanced
from tests.support.loopback import until

pytestmark = pytest.mark.scenario_14


class PairsToEvents:
    """Assembler for records that are pairs of a type and a number."""

    def feed(self, record: tuple[str, int], emit: Emit) -> None:
        emit(an_event(record[0], seq=record[1]))

    def flush_stale(self, now_ns: int, emit: Emit) -> None:
        return


class AnyInterleaving(RuleBasedStateMachine):
    """Pipeline with two exporters, the second one on a dedicated thread."""

    def __init__(self) -> None:
        super().__init__()
        self.saved = subscription_module.BACKOFF, workers_module.HANG_SECONDS
        subscription_module.BACKOFF, workers_module.HANG_SECONDS = (0.001, 0.002), 0.002
        self.exporters = [Fickle(threaded=False, durable=True), Fickle(threaded=True, durable=False)]
        self.pipeline = Pipeline(self.exporters, assembler=PairsToEvents(), max_events=20, max_bytes=10**6)
        self.put = 0
        self.closed = False

    @property
    def hanging(self) -> bool:
        return any(exporter.mood == "hangs" for exporter in self.exporters)

    @property
    def away(self) -> bool:
        return any(exporter.mood == "is away" for exporter in self.exporters)

    @rule(kinds=st.lists(st.sampled_from(list(PAYLOADS)), max_size=30), raw=st.booleans())
    def put_events(self, kinds: list[str], raw: bool) -> None:
        for kind in kinds:
            self.pipeline.put((kind, self.put) if raw else an_event(kind, seq=self.put))
            self.put += 1

    @rule()
    def end_a_run(self) -> None:
        self.pipeline.wake()

    @rule(mood=st.sampled_from(BEHAVIOURS), which=st.integers(0, 1))
    def change_mood(self, mood: str, which: int) -> None:
        self.exporters[which].change(mood)

    @rule()
    def wait_a_little(self) -> None:
        time.sleep(0.003)

    @rule()
    def flush(self) -> None:
        sulking = self.hanging or self.away
        lacking = self.pipeline.flush(0.03 if sulking else SAFETY)
        if not sulking:
            pending = [stats.pending for stats in self.pipeline.stats().values()]
            assert pending == [0, 0], lacking

    @rule()
    @precondition(lambda self: not self.hanging)
    def fork(self) -> None:
        """Fork in the child's view: the parent's threads are idle, and do not exist in the child."""
        threads = list(self.pipeline._workers.threads)
        subscriptions = self.pipeline._subscriptions
        until(lambda: not any(each.busy_since for each in subscriptions) and not self.pipeline.records)
        with self.pipeline._workers._role:
            for each in subscriptions:
                each.finished = True
            self.pipeline._workers._leader = None
            self.pipeline._workers._all_logged = True
        self.pipeline._workers._wakeup.put(None)
        self.pipeline._workers._stand_by_wakeup.put(0.0)
        for each in subscriptions:
            each._wakeup.put(None)
        for thread in threads:
            thread.join(SAFETY)
        self.pipeline.after_fork()
        self.put = 0

    @rule()
    @precondition(lambda self: not self.closed)
    def close(self) -> None:
        self.closed = True
        self.pipeline.close(0.03 if self.hanging else SAFETY)

    @invariant()
    def balanced(self) -> None:
        for stats in self.pipeline.stats().values():
            assert is_balanced(stats)
            assert stats.seen <= self.put
            if self.closed:
                assert (stats.seen, stats.pending, stats.state) == (self.put, 0, "closed")

    @invariant()
    def nothing_doubled_and_order_kept(self) -> None:
        for exporter in self.exporters:
            assert all(a < b for a, b in pairwise(exporter.seqs))

    def teardown(self) -> None:
        for exporter in self.exporters:
            exporter.change("works")
        self.pipeline.close(SAFETY)
        subscription_module.BACKOFF, workers_module.HANG_SECONDS = self.saved
        for exporter, stats in zip(self.exporters, self.pipeline.stats().values(), strict=True):
            assert (stats.seen, stats.pending) == (self.put, 0)
            assert is_balanced(stats)
            if not self.closed:
                assert stats.exported == len(exporter) - exporter.lost


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
