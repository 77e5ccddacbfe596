"""Scores as log records: `gen_ai.evaluation.result`, linked to the span of the run, counted exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from sidestream import Sidecar
from sidestream.errors import ExporterUnavailable
from sidestream.events import StreamEvent
from sidestream.events.ids import span_id_of, trace_id_of
from sidestream.log.forwarding.missing import Missing
from sidestream.recording.content import ContentPolicy, apply_policy
from sidestream_exporters import OTLPExporter
from tests.support.log_builder import run_events, scored
from tests.support.loopback import until
from tests.support.otlp_agents import exporter_stats, observed_run
from tests.support.otlp_receiver import Answer, Received, attributes, grpc_receiver, http_receiver
from tests.support.rotel_collector import by_http, collector

Receiver = Callable[..., AbstractContextManager[Received]]


def sent(exporter: OTLPExporter, *events: StreamEvent) -> dict[str, int]:
    """The losses of one batch."""
    with closing(exporter):
        return dict(exporter.export(events) or {})


def of_logs(*answers: int) -> Iterator[Answer]:
    """An answer to the spans of a run, then answers to scores."""
    yield Answer()
    yield from (Answer(status) for status in answers)


@pytest.mark.parametrize("receiver", [http_receiver, grpc_receiver])
class TestARecord:
    def test_has_the_conventions_names_and_is_linked_to_the_span_of_its_run(self, receiver: Receiver) -> None:
        with receiver() as received:
            with Sidecar(OTLPExporter(received.url, protocol=protocol_of(receiver), content="full")) as sidecar:
                observed_run(sidecar)
                assert sidecar.flush(30) == {}
                run_id = attributes(received.named("invoke_agent support"))["sidestream.run_id"]
                sidecar.score(run_id, "helpful", 0.8, label="good", comment="right, and too long")
                assert sidecar.flush(30) == {}
                stats = exporter_stats(sidecar)
                assert (stats.seen, stats.dropped) == (stats.exported, {})
            (record,) = received.log_records
            run = received.named("invoke_agent support")
        assert (record.trace_id, record.span_id) == (run.trace_id, run.span_id)
        assert record.event_name == "gen_ai.evaluation.result"
        assert record.time_unix_nano >= run.start_time_unix_nano
        its = attributes(record)
        assert len(its.pop("log.record.uid")) == 32
        assert its == {
            "gen_ai.evaluation.name": "helpful",
            "gen_ai.evaluation.score.value": 0.8,
            "gen_ai.evaluation.score.label": "good",
            "gen_ai.evaluation.explanation": "right, and too long",
            "gen_ai.agent.name": "support",
            "sidestream.run_id": run_id,
        }

    def test_a_score_again_has_the_same_id(self, receiver: Receiver) -> None:
        event = scored("run-1", "helpful", True)
        with receiver() as received:
            for _ in range(2):
                assert sent(OTLPExporter(received.url, protocol=protocol_of(receiver)), event) == {}
            one, other = received.log_records
        assert one == other
        assert attributes(one)["gen_ai.evaluation.score.value"] == 1.0


def protocol_of(receiver: Receiver) -> str:
    return "http/protobuf" if receiver is http_receiver else "grpc"


class TestContent:
    @pytest.mark.parametrize(
        ("policy", "explanation"),
        [
            ("none", None),
            ("metadata", '{"type":"str","length":9}'),
            ("truncated(3)", "not… (+6 characters)"),
            ("full", "not right"),
        ],
    )
    def test_of_the_comment_obeys_the_policy(self, policy: str, explanation: str | None) -> None:
        event: Any = apply_policy(
            scored("run-1", "helpful", False, comment="not right"), ContentPolicy.parse(policy), None
        )
        with http_receiver() as received:
            assert sent(OTLPExporter(received.url, content=policy), event) == {}
        (record,) = received.log_records
        told = attributes(record).get("gen_ai.evaluation.explanation")
        assert told == explanation
        assert attributes(record)["gen_ai.evaluation.score.value"] == 0.0

    def test_a_label_alone_has_no_value(self) -> None:
        with http_receiver() as received:
            sent(OTLPExporter(received.url), scored("run-1", "reviewed", label="pass"))
        assert "gen_ai.evaluation.score.value" not in attributes(received.log_records[0])


class TestTheLink:
    def test_of_a_run_without_ids_in_its_log_is_the_one_that_its_span_has(self) -> None:
        """As in a replay of a log that was written without traces."""
        with http_receiver() as received:
            sent(OTLPExporter(received.url), *run_events("run-1"), scored("run-1", "helpful", 1.0))
        (record,), run = received.log_records, received.named("invoke_agent support")
        assert (record.trace_id, record.span_id) == (run.trace_id, run.span_id)
        assert record.trace_id.hex() == trace_id_of("run-1")
        assert record.span_id.hex() == span_id_of("run-1", 0)

    def test_of_a_run_that_nobody_here_knows_is_its_id_alone(self) -> None:
        with http_receiver() as received:
            sent(OTLPExporter(received.url), scored("run-1", "helpful", 1.0))
        (record,) = received.log_records
        assert (record.trace_id, record.span_id) == (b"", b"")
        assert attributes(record)["sidestream.run_id"] == "run-1"


class TestAccounting:
    def test_refused_scores_are_lost_and_counted_and_spans_are_not(self) -> None:
        scores = [scored("run-1", "helpful", 1.0), scored("run-1", "polite", 1.0)]
        with http_receiver(*of_logs(404)) as received:
            exporter = OTLPExporter(received.url)
            assert sent(exporter, *run_events("run-1"), *scores) == {"refused": 2}
        assert (exporter.scores_sent, exporter.spans_lost) == (0, 0)
        assert exporter.spans_sent == len(received.spans) > 0

    def test_a_partial_success_is_no_success(self) -> None:
        scores = [scored("run-1", name, 1.0) for name in ("helpful", "polite", "right")]
        with http_receiver(Answer(rejected=2)) as received:
            exporter = OTLPExporter(received.url)
            assert sent(exporter, *scores) == {"rejected": 2}
        assert exporter.scores_sent == 1

    def test_in_an_outage_the_batch_is_kept_and_nothing_is_sent_twice(self) -> None:
        events = [*run_events("run-1"), scored("run-1", "helpful", 1.0)]
        with http_receiver(*of_logs(503, 200)) as received:
            exporter = OTLPExporter(received.url)
            with pytest.raises(ExporterUnavailable):
                exporter.export(events)
            assert sent(exporter, *events) == {}
        assert len(received.log_records) == exporter.scores_sent == 1
        assert len(received.spans) == exporter.spans_sent == len({span.span_id for span in received.spans})

    def test_one_that_is_too_large_goes_without_its_comment(self) -> None:
        score = scored("run-1", "helpful", 1.0, comment="x" * 2_000)
        with http_receiver(Answer(413), Answer()) as received:
            assert sent(OTLPExporter(received.url, content="full"), score) == {}
        its = attributes(received.log_records[0])
        assert its["sidestream.content_left_out"] == 2_000
        assert "gen_ai.evaluation.explanation" not in its

    def test_can_be_left_out(self) -> None:
        with http_receiver() as received:
            assert sent(OTLPExporter(received.url, scores=False), scored("run-1", "helpful", 1.0)) == {}
        assert received.requests == []

    def test_the_record_of_deliveries_has_them(self, tmp_path: Path) -> None:
        """Delivered scores are recorded, so that `replay --only-missing` sends only the others."""
        here, lost = scored("run-1", "helpful", 1.0), scored("run-1", "polite", 1.0)
        with http_receiver() as received:
            exporter = OTLPExporter(received.url, record=str(tmp_path / "record"))
            sent(exporter, *run_events("run-1"), here)
        missing = Missing(exporter.delivered() or {})
        assert [event for each in (*run_events("run-1"), here, lost) for event in missing(each)] == [lost]


def test_through_a_real_collector(tmp_path: Path) -> None:
    with http_receiver() as behind, collector(tmp_path, *by_http(behind.url)) as (_, http):
        sent(OTLPExporter(http, content="full"), scored("run-1", "helpful", 0.25, label="bad", comment="why"))
        until(lambda: behind.log_records, 60)
    (record,) = behind.log_records
    its = attributes(record)
    assert its["gen_ai.evaluation.score.value"] == 0.25
    assert its["gen_ai.evaluation.explanation"] == "why"
