"""Any program under observation, with failing exporters, forks, interruptions and closes: each run exactly once."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from contextvars import Context
from functools import cache, partial
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sidestream import Sidecar
from sidestream.pipeline import subscription as subscription_module
from sidestream.pipeline import workers as workers_module
from tests.support.driven_programs import (
    STREAMED,
    Call,
    Delegate,
    DrivenRun,
    DrivenTap,
    Fail,
    Finish,
    Mode,
    Program,
    Retry,
    Say,
    Tapped,
)
from tests.support.faulty_exporters import BEHAVIOURS, SAFETY
from tests.support.forked_child import in_child
from tests.support.interrupted_code import interrupted
from tests.support.loopback import until
from tests.support.witnessed_sidecar import Recording, WitnessedSidecar

pytestmark = [pytest.mark.scenario_03, pytest.mark.scenario_14, pytest.mark.scenario_15]

SEARCHED = os.environ.get("SIDESTREAM_PROGRAM_EXAMPLES")
"""Number of random programs, for a search; by default, the same few programs every time."""

SULKING = {"is away", "hangs"}
"""Behaviours that keep events pending."""
HEALTHY = {"works", "is slow", "loses one of each batch"}

modes: st.SearchStrategy[Mode] = st.sampled_from(["run", "iter", *STREAMED])
model_actions = st.one_of(
    st.builds(Say, st.sampled_from(["a", "bc", "déf"])),
    st.builds(Call, st.integers(1, 3)),
    st.sampled_from([Finish(), Finish(), Fail()]),
)
tool_actions = st.one_of(
    st.builds(Delegate, modes),
    st.sampled_from([Finish(), Finish(), Finish(), Retry(), Tapped(), Fail()]),
)
which = st.integers(0, 30)
actions = st.lists(
    st.tuples(which, model_actions, tool_actions, st.sampled_from([False, False, False, True])), min_size=1, max_size=12
)
"""Actions of waiting models and tools, and whether the consumer leaves."""
exporter_kinds = st.lists(st.sampled_from(["durable", "threaded", "plain", "skips"]), min_size=1, max_size=3)
buffers = st.sampled_from([20_000, 40, 6])
"""Sizes of a queue: ample, and so small that events are dropped."""
acts = st.sampled_from(["score", "tap", "collect", "flush", "stats", "close", "fork"])
"""Acts of a signal handler or finalizer."""
TAPPED = ["say", "think", "tool", "retry", "custom", "request"]


class AnyProgram(RuleBasedStateMachine):
    """Program with agents, tapped streams and threads, observed by one sidecar after another."""

    def __init__(self) -> None:
        super().__init__()
        import_all()
        gc.disable()  # only a rule collects, so that the same actions have the same effect
        gc.freeze()  # no collection examines the objects of other tests
        self.saved = subscription_module.BACKOFF, workers_module.HANG_SECONDS
        subscription_module.BACKOFF, workers_module.HANG_SECONDS = (0.001, 0.002), 0.002
        self.program = Program(self._current)
        self.taps: list[DrivenTap] = []
        self.ended: list[DrivenRun] = []
        """Runs of streams that were tapped and read at once."""
        self.optional: set[str] = set()
        """Runs that began while another act closed the sidecar."""
        self.all: list[WitnessedSidecar] = []
        self.interruption: tuple[int, str] | None = None
        self.failures: list[BaseException] = []
        """Failures of interrupting acts and other threads."""
        self.beside = 0
        self.children = 0

    def _current(self) -> Sidecar | None:
        return None if self.now.closed else self.now.sidecar

    @property
    def now(self) -> WitnessedSidecar:
        return self.all[-1]

    @property
    def runs(self) -> list[DrivenRun]:
        return [*self.program.runs, *(tap.run for tap in self.taps), *self.ended]

    # --- sidecars ---

    @initialize(kinds=exporter_kinds, buffer=buffers)
    def open(self, kinds: list[str], buffer: int) -> None:
        skip = ("llm_chunk", "progress")
        exporters = [
            Recording(threaded=kind == "threaded", durable=kind == "durable", skip=skip if kind == "skips" else ())
            for kind in kinds
        ]
        self.all.append(WitnessedSidecar(*exporters, buffer=buffer))
        self.now.sidecar.observe(self.program.agent)

    @rule(kinds=exporter_kinds, buffer=buffers)
    def open_again(self, kinds: list[str], buffer: int) -> None:
        if self.now.closed:
            self.open(kinds, buffer)

    @rule(mood=st.sampled_from(BEHAVIOURS), number=st.integers(0, 2))
    def change_mood(self, mood: str, number: int) -> None:
        self.now.exporters[number % len(self.now.exporters)].change(mood)

    @rule()
    def flush(self) -> None:
        self._step(self._flush)

    @rule(again=st.sampled_from([True, True, True, False]), kinds=exporter_kinds, buffer=buffers)
    def close(self, again: bool, kinds: list[str], buffer: int) -> None:
        self._step(self._close)
        if again:
            self.open(kinds, buffer)

    def _flush(self) -> None:
        sulking = self.now.moods & SULKING
        lacking = self.now.sidecar.flush(0.03 if sulking else SAFETY)
        if not sulking:
            assert all(each.pending == 0 for each in self.now.sidecar.stats().exporters.values()), lacking

    def _close(self) -> None:
        was_closed, moods, self.now.closed = self.now.closed, self.now.moods, True
        self.now.sidecar.close(0.03 if "hangs" in moods else SAFETY)
        for stats in self.now.sidecar.stats().exporters.values():
            assert (stats.pending, stats.state) == (0, "closed")
            assert was_closed or moods - HEALTHY or "shutdown" not in stats.dropped

    # --- the program ---

    @rule(mode=modes, then=actions)
    def start_a_run(self, mode: Mode, then: list[Any]) -> None:
        self._step(lambda: self.program.start(mode))
        self.act(then)

    @rule(actions=actions)
    def act(self, actions: list[Any]) -> None:
        for number, model, tool, leave in actions:
            self._step(partial(self.program.act, number, model, tool, leave=leave))

    @rule(number=which)
    def cancel(self, number: int) -> None:
        self._step(lambda: self.program.cancel(number))

    @rule(number=which)
    def time_out(self, number: int) -> None:
        self._step(lambda: self.program.time_out(number))

    @rule()
    def tap(self) -> None:
        self._step(lambda: self.taps.append(self._new_tap()))

    @rule(number=which, item=st.sampled_from(TAPPED))
    def pull(self, number: int, item: str) -> None:
        self._step(lambda: self._on_tap(number, lambda tap: pull(tap, item)))

    @rule(number=which, how=st.sampled_from([DrivenTap.finish, DrivenTap.fail, DrivenTap.close, DrivenTap.drop]))
    def end_tap(self, number: int, how: Callable[[DrivenTap], None]) -> None:
        self._step(lambda: self._on_tap(number, how))

    @rule()
    def collect(self) -> None:
        self._step(self._collect)

    def _collect(self) -> None:
        gc.collect()
        for tap in self.taps:
            tap.run.left_alone = False

    def _new_tap(self) -> DrivenTap:
        return DrivenTap(self.now.sidecar, f"tap-{len(self.all)}-{len(self.taps)}")

    def _on_tap(self, number: int, act: Callable[[DrivenTap], None]) -> None:
        if self.taps:
            act(self.taps[number % len(self.taps)])

    # --- at the same time ---

    @rule(at=st.integers(1, 1_500), act=acts)
    def interrupt_the_next_action(self, at: int, act: str) -> None:
        self.interruption = at, act

    @rule(runs=st.integers(1, 5))
    def run_another_thread_beside_the_next_action(self, runs: int) -> None:
        self.beside = runs

    @rule()
    def wait_a_little(self) -> None:
        time.sleep(0.003)

    def _step(self, act: Callable[[], object]) -> None:
        """Do `act`, with the planned interruption and beside another thread."""
        was_open, before = not self.now.closed, len(self.runs)
        names = {run.name for run in self.runs}
        beside, self.beside = self.beside, 0
        planned, self.interruption = self.interruption, None
        thread = threading.Thread(target=self._guarded, args=(lambda: self._read_streams(beside),), daemon=True)
        if beside:
            thread.start()
        if planned is None:
            act()
        else:
            interrupt = partial(Context().run, self._interrupt, planned[1])  # not within the run that is interrupted
            with interrupted(planned[0], lambda: self._guarded(interrupt)):
                act()
        if beside:
            thread.join(SAFETY)
            assert not thread.is_alive()
        if was_open and self.now.closed and len(self.runs) > before:
            self.optional |= {run.name for run in self.runs} - names
        if self.failures:
            raise self.failures.pop()

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            self.failures.append(error)

    def _interrupt(self, act: str) -> None:
        sidecar = self.now.sidecar
        match act:
            case "score":
                self.now.scores += sidecar.active
                if sidecar.active:
                    sidecar.score("some run", "good", True)
            case "tap":
                self._read_streams(1)
            case "collect":
                self._collect()
            case "flush":
                self._flush()
            case "stats":
                self.now.check()
            case "close":
                self._close()
            case "fork":
                self._fork(again=False)

    def _read_streams(self, number: int) -> None:
        for _ in range(number):
            tap = DrivenTap(self.now.sidecar, f"{threading.current_thread().name}-{len(self.all)}-{len(self.ended)}")
            self.ended.append(tap.run)
            tap.say("one")
            tap.finish()

    # --- forks ---

    @rule(again=st.booleans())
    def fork(self, again: bool) -> None:
        planned, self.interruption = self.interruption, None
        self._step(lambda: self._fork(again=again))
        self.interruption = planned

    def _fork(self, *, again: bool) -> None:
        self.children += 1
        in_child(lambda: self._be_a_child(again=again))

    def _be_a_child(self, *, again: bool) -> None:
        """Life of a child: nothing of the parent's, own runs, and an orderly end."""
        now = self.now
        now.closed = not now.sidecar.active  # the fork may be at the beginning of a close
        before = now.sidecar.stats()
        exported = [len(exporter) for exporter in now.exporters]
        if not now.closed:
            now.forget()
            assert (before.runs, before.runs_in_progress, before.pending_records) == (0, 0, 0)
            assert all((each.seen, each.state) == (0, "ok") for each in before.exporters.values())
        for tap in self.taps:
            tap.say("in the child")
            tap.drop()
        gc.collect()
        self.children, self.taps, self.ended = self.children * 100, [], []
        program = Program(self._current, f"child-{os.getpid()}-")
        if not now.closed:
            now.sidecar.observe(program.agent)
        program.start("run_stream")
        program.act(0, Call(2), Fail())
        program.act(0, Fail(), Delegate("run"))
        if again:
            in_child(lambda: self._be_a_child(again=False))
        program.act(-1, Fail(), Fail())
        self._read_streams(2)
        for _ in range(3):
            program.act(0, Finish(), Finish())
        program.end()
        assert [run.outcome for run in program.runs] == ["completed", "error"]
        lacking = now.sidecar.close(SAFETY)
        if now.closed:
            assert [len(exporter) for exporter in now.exporters] == exported
            return
        now.settle()
        now.check_runs([*program.runs, *self.ended], self.optional)
        now.check_drops()
        assert now.buffer < 10_000 or lacking == {}

    # --- what holds ---

    @invariant()
    def holds(self) -> None:
        for each in self.all:
            each.check()

    @rule()
    def settle(self) -> None:
        """Whatever some exporters do, the others deliver, and every run is recorded as its consumer saw it."""
        now = self.now
        now.settle()
        now.check_runs(self.runs, self.optional)
        until(
            lambda: all(
                exporter.mood not in HEALTHY or stats.pending == 0
                for exporter, stats in zip(now.exporters, now.sidecar.stats().exporters.values(), strict=True)
            )
        )

    def teardown(self) -> None:
        try:
            self._end()
        finally:
            gc.unfreeze()
            gc.enable()
            subscription_module.BACKOFF, workers_module.HANG_SECONDS = self.saved

    def _end(self) -> None:
        if not self.all:
            return
        self.interruption = None
        self.beside = 0
        for each in self.all:
            for exporter in each.exporters:
                exporter.change("works")
        for tap in self.taps:
            tap.drop()
        self._collect()
        self.program.end()
        if not self.now.closed:
            self.now.sidecar.flush(SAFETY)  # ends calls in which an exporter still fails
            self.now.closed = True
            assert self.now.sidecar.close(SAFETY) == {}
        for each in self.all:
            each.settle()
            each.check_runs(self.runs, self.optional)
            each.check_drops()
            assert each.sidecar.stats().runs_in_progress == 0


@cache
def import_all() -> None:
    """Import in this process what each child would import for its first run, and a signal handler for its tap."""
    import_module("sidestream.sources.tap.opening")
    program = Program(lambda: None)
    program.start("run_stream")
    program.end()


def pull(tap: DrivenTap, item: str) -> None:
    """Pull an item that reports `item`."""
    match item:
        case "say":
            tap.say("said")
        case "think":
            tap.pull(lambda record: record.thinking("hm"))
        case "tool":
            tap.pull(lambda record: record.tool_start("look", {"at": 1}, tool_call_id="call"))
            tap.pull(lambda record: record.tool_end("look", "seen", tool_call_id="call"))
        case "retry":
            tap.pull(lambda record: record.retry(cause="model_retry"))
        case "custom":
            tap.pull(lambda record: record.custom("step", 1))
        case "request":
            tap.pull(lambda record: record.request_start("model"))


TestAnyProgram = AnyProgram.TestCase
TestAnyProgram.settings = settings(
    max_examples=int(SEARCHED or 12),
    derandomize=SEARCHED is None,
    stateful_step_count=30,
    deadline=None,
    phases=[Phase.generate],  # a smaller failing program would take minutes to find
    suppress_health_check=list(HealthCheck),
)
