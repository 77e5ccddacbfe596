"""Closing with a complete durable log: no waiting for an outage whose events a replay can deliver."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from sidestream.errors import ExporterUnavailable
from sidestream.events import StreamEvent, decode_line
from sidestream.pipeline import subscription as subscription_module
from sidestream.pipeline.pipeline import Pipeline
from sidestream.pipeline.subscription import BATCH
from sidestream_exporters import JSONLExporter
from tests.support.faulty_exporters import SAFETY, Hanging, Scripted, a_pipeline, an_event, raising
from tests.support.loopback import until

NEVER = 3 * SAFETY
"""Seconds of a deadline that is not reached, because the hanging exporter returns earlier."""


class Durable(Scripted):
    name = "durable"
    durable = True


@contextmanager
def entered(pipeline: Pipeline, *exporters: Hanging) -> Iterator[None]:
    """Sidecar with three recorded events, while `exporters` hang in the first event until the end of the block."""
    try:
        for _ in range(3):
            pipeline.put(an_event())
        until(lambda: all(exporter.entered.is_set() or not pipeline.stats() for exporter in exporters))
        yield
    finally:
        for exporter in exporters:
            exporter.released.set()


class TestAnExporterThatHangs:
    def test_is_given_up_long_before_the_deadline_once_the_log_holds_everything(self, tmp_path: Path) -> None:
        hanging = Hanging()
        pipeline = a_pipeline(hanging, JSONLExporter(tmp_path))
        with entered(pipeline, hanging):
            assert pipeline.close(NEVER) == {"hanging": 3}
            assert not hanging.events, "it was waited for"
        [log] = tmp_path.glob("*.jsonl")
        assert [decode_line(line).event_type for line in log.read_bytes().splitlines()] == ["tool_start"] * 3

    def test_is_given_up_together_with_others_and_not_one_after_the_other(self) -> None:
        exporters = [Hanging() for _ in range(10)]
        pipeline = a_pipeline(*exporters, Durable())
        with entered(pipeline, *exporters):
            begun = time.monotonic()
            assert len(pipeline.close(NEVER)) == len(exporters)
            assert time.monotonic() - begun < len(exporters) * subscription_module.HUNG_SECONDS

    def test_is_given_up_at_once_where_it_has_failed_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(subscription_module, "HUNG_SECONDS", NEVER)
        failed, released = threading.Event(), threading.Event()

        def fails_then_hangs(events: Sequence[StreamEvent]) -> None:
            if failed.is_set():
                released.wait(SAFETY)
            failed.set()
            raise ExporterUnavailable("away")

        pipeline = a_pipeline(Scripted(fails_then_hangs), Durable())
        try:
            pipeline.put(an_event())
            assert failed.wait(SAFETY)
            assert pipeline.close(NEVER) == {"scripted": 1}
            assert pipeline.stats()["scripted"].dropped == {"shutdown": 1}
        finally:
            released.set()

    @pytest.mark.parametrize("beside", ["nothing durable", "a durable exporter that lost something"])
    def test_has_until_the_deadline_where_no_log_holds_everything(
        self, beside: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subscription_module, "GRACE_SECONDS", 0.01)
        monkeypatch.setattr(subscription_module, "HUNG_SECONDS", 0.01)
        hanging = Hanging()
        others = [Scripted()] if beside == "nothing durable" else [Durable(raising(ValueError()))]
        pipeline = a_pipeline(hanging, *others)
        with entered(pipeline, hanging):
            threading.Timer(0.3, hanging.released.set).start()
            assert "hanging" not in pipeline.close(SAFETY)
        assert len(hanging.events) == 3


class TestAnExporterThatGetsOn:
    def test_has_until_the_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [time.monotonic()]
        clock = SimpleNamespace(monotonic=lambda: now[0], time=time.time, sleep=time.sleep)
        monkeypatch.setattr(subscription_module, "time", clock)

        def slowly(events: Sequence[StreamEvent]) -> None:
            now[0] += subscription_module.HUNG_SECONDS * 0.9

        slow = Scripted(slowly)
        slow.interval = SAFETY
        pipeline = a_pipeline(slow, Durable())
        for _ in range(4 * BATCH):
            pipeline.put(an_event())
        assert pipeline.close(1_000.0) == {}
        assert len(slow.events) == 4 * BATCH

    def test_may_take_a_while_to_begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The last batch often opens the connection to a remote collector."""
        monkeypatch.setattr(subscription_module, "GRACE_SECONDS", 0.01)
        monkeypatch.setattr(subscription_module, "HUNG_SECONDS", SAFETY)
        slow = Scripted(lambda events: time.sleep(0.3))
        slow.interval = SAFETY
        pipeline = a_pipeline(slow, Durable())
        pipeline.put(an_event())
        assert pipeline.close(NEVER) == {}
        assert len(slow.events) == 1


def test_what_a_durable_exporter_has_not_written_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "GRACE_SECONDS", 0.01)
    monkeypatch.setattr(subscription_module, "HUNG_SECONDS", 0.01)
    durable = Durable(lambda events: time.sleep(0.3))
    pipeline = a_pipeline(durable)
    pipeline.put(an_event())
    assert pipeline.close(SAFETY) == {}
    assert len(durable.events) == 1
