"""Diagnostics: destination, prefix, and the display of foreign errors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidestream import InMemoryExporter, Sidecar, diagnostics
from sidestream.errors import ConfigurationError
from tests.support.faulty_exporters import SAFETY, Scripted, a_pipeline, an_event, raising
from tests.support.subprograms import OBSERVED, run_program


@pytest.fixture
def _unconfigured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Behave as in a program that has not configured `logging`."""
    monkeypatch.setattr(logging.getLogger("sidestream"), "hasHandlers", lambda: False)  # pytest adds handlers
    diagnostics.forget()
    yield
    diagnostics.forget()


@pytest.mark.usefixtures("_unconfigured")
def test_without_a_configuration_warnings_are_lines_that_begin_with_the_name(
    capfd: pytest.CaptureFixture[str],
) -> None:
    diagnostics.warn("events dropped", exporter="x", reason="overflow", so_far=3)
    diagnostics.info("nobody asked")
    diagnostics.error_once("cannot observe")
    diagnostics.error_once("cannot observe")
    assert capfd.readouterr().err.splitlines() == [
        "sidestream: events dropped exporter='x' reason='overflow' so_far=3",
        "sidestream: cannot observe",
    ]


@pytest.mark.usefixtures("_unconfigured")
@pytest.mark.parametrize("level", [logging.ERROR, logging.CRITICAL])
def test_a_level_of_the_logger_holds_without_handlers_too(level: int, capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("sidestream")
    logger.setLevel(level)
    try:
        diagnostics.warn("a warning")
        diagnostics.error_once("an error")
    finally:
        logger.setLevel(logging.NOTSET)
    assert capfd.readouterr().err == ("sidestream: an error\n" if level == logging.ERROR else "")


@pytest.mark.usefixtures("_unconfigured")
def test_a_program_without_stderr_or_with_one_of_its_own_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    diagnostics.warn("to nobody")

    class Lines(list[str]):
        write = list.append

    lines = Lines()
    monkeypatch.setattr(sys, "stderr", lines)
    diagnostics.warn("to a list")
    assert lines == ["sidestream: to a list\n"]


def test_where_logging_is_configured_its_handlers_have_them_and_stderr_has_not(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    diagnostics.warn("events dropped", reason="overflow")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "events dropped reason='overflow'")
    ]
    assert capfd.readouterr().err == ""


def test_a_handler_that_raises_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(record: logging.LogRecord) -> None:
        raise OSError("full")

    monkeypatch.setattr(logging.getLogger("sidestream"), "handle", refuse)
    diagnostics.warn("nobody hears it")


@pytest.mark.parametrize("debug", ["", "0", "1"])
def test_the_traceback_of_an_exporter_that_fails_is_printed_on_request(
    debug: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIDESTREAM_DEBUG", debug)
    pipeline = a_pipeline(Scripted(raising(ValueError("a text of the exporter's"))))
    pipeline.put(an_event())
    pipeline.close(SAFETY)
    assert ("Traceback" in (err := capfd.readouterr().err)) is (debug == "1")
    assert ("a text of the exporter's" in err) is (debug == "1")


def test_a_redactor_that_fails_is_counted_and_said_once_and_the_text_is_withheld(
    caplog: pytest.LogCaptureFixture,
) -> None:
    diagnostics.forget()

    def redact(text: str) -> str:
        if text == "secret":
            raise LookupError(text)
        return text.upper() if text != "odd" else None  # type: ignore[return-value]

    memory = InMemoryExporter()
    with Sidecar(memory, redact=redact) as sidecar:
        run = sidecar.open_run("r", "agent", None)
        run.start()
        for payload in ("secret", "open", "odd", "secret"):
            run.custom("step", payload)
        run.end("completed")
        sidecar.close_run(run)
        sidecar.flush(SAFETY)
        assert sidecar.stats().redaction_failures == 3
    shown = [event.data.payload for event in memory.of("custom")]
    assert shown == ["[redaction failed]", "OPEN", "[redaction failed]", "[redaction failed]"]
    said = [record.getMessage() for record in caplog.records if "redactor" in record.getMessage()]
    assert [line.split("exception=")[1] for line in said] == ["'LookupError'", "'TypeError'"]
    assert "secret" not in caplog.text


def test_a_redactor_that_cannot_be_called_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"redact: must be a function .*, not 'str'"):
        Sidecar("memory", redact="password")  # type: ignore[arg-type]


def test_a_program_that_drops_events_says_so_in_a_line_with_our_name(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        f"""{OBSERVED}# ---
        class Failing(Exporter):
            name = "failing"
            def export(self, events):
                raise ValueError("no")
        with Sidecar(Failing()) as sidecar:
            record(sidecar)
        """,
    )
    why = "exception='ValueError' traceback='SIDESTREAM_DEBUG=1'"
    assert ended.err.splitlines() == [f"sidestream: events dropped exporter='failing' reason='error' so_far=3 {why}"]
