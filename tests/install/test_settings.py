"""Settings of a sidecar by argument and by environment, and without any."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

import sidestream
from sidestream import ConfigurationError, InMemoryExporter, Sidecar, run_stream
from sidestream.diagnostics import forget


@pytest.mark.parametrize(
    ("name", "value"), [("SIDESTREAM_DISABLED", "1"), ("SIDESTREAM_DISABLED", "true"), ("SIDESTREAM_EXPORTERS", "none")]
)
def test_the_environment_can_switch_it_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    """The program is unaffected, nothing is written or logged, and no exporter starts."""
    monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with Sidecar() as sidecar:
        agent = sidecar.observe(Agent(TestModel(custom_output_text="hi"), capabilities=[sidecar.capability]))
        assert agent.run_sync("?").output == "hi"
        assert list(sidecar.tap(["a"])) == ["a"]
        assert sidecar.flush() == {}
        assert (sidecar.stats().runs, sidecar.stats().exporters) == (0, {})
    assert list(tmp_path.iterdir()) == []
    assert caplog.text == ""


def test_switched_off_the_programs_own_exporters_rest_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDESTREAM_DISABLED", "1")
    memory = InMemoryExporter()
    with Sidecar(memory) as sidecar:
        list(sidecar.tap(["a"]))
    assert memory.events == []


def test_switched_off_the_streaming_functions_still_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[str]:
        return [event.event_type async for event in run_stream(Agent(TestModel()), "?", sidecar=Sidecar())]

    monkeypatch.setenv("SIDESTREAM_DISABLED", "1")
    events = asyncio.run(main())
    assert (events[0], events[-1]) == ("agent_start", "agent_end")


def test_switched_off_install_installs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDESTREAM_DISABLED", "1")
    original = Agent.__init__
    sidecar = sidestream.install()
    assert sidecar.disabled
    assert Agent.__init__ is original
    assert sidestream.install(sidecar=sidecar) is sidecar
    sidestream.uninstall()


def test_an_exporter_of_the_environments_that_cannot_work_does_not_end_a_program_that_installs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Other exporters work; an invalid argument is an error of the program, and is raised."""
    forget()
    monkeypatch.setenv("SIDESTREAM_EXPORTERS", "nope,memory")
    sidecar = sidestream.install()
    assert list(sidecar.stats().exporters) == ["memory"]
    assert "exporter left out" in caplog.text
    assert "no exporter 'nope'" in caplog.text
    sidestream.uninstall()


@pytest.mark.parametrize("value", ["0", "false", "no", ""])
def test_other_values_do_not_switch_it_off(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SIDESTREAM_DISABLED", value)
    assert Sidecar(InMemoryExporter()).active


def test_a_value_that_is_neither_yes_nor_no_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The value is never shown, because it may be a secret of another variable."""
    forget()
    monkeypatch.setenv("SIDESTREAM_DISABLED", "sk-1234")
    assert all(Sidecar(InMemoryExporter()).active for _ in range(2))
    assert caplog.text.count("SIDESTREAM_DISABLED is neither 1 nor 0") == 1
    assert "sk-1234" not in caplog.text


def test_several_exporters_in_one_string_are_a_hint() -> None:
    """The format of the environment variable, given as an argument."""
    with pytest.raises(ConfigurationError, match=r"several exporters; give them one by one: 'console', 'jsonl:runs/'"):
        Sidecar("console, jsonl:runs/")


def test_a_comma_in_a_target_is_no_list(tmp_path: Path) -> None:
    with Sidecar(f"jsonl:{tmp_path}/a,b/") as sidecar:
        list(sidecar.tap(["a"]))
    assert (tmp_path / "a,b").is_dir()


def test_it_shows_what_it_is() -> None:
    sidecar = Sidecar(InMemoryExporter())
    list(sidecar.tap(["a"]))
    assert repr(sidecar) == "<Sidecar memory: 1 runs, 0 in progress>"
    assert "<td>memory</td>" in sidecar._repr_html_()
    sidecar.close()
    assert repr(sidecar) == "<Sidecar memory: 1 runs, 0 in progress, closed>"


SECRET = "sk-live-4f9aK3Yc2VjcmV0L3Rva2VuPT0="
VARIABLES = [
    *("SIDESTREAM_EXPORTERS", "SIDESTREAM_SDK", "SIDESTREAM_DISABLED", "OTEL_SDK_DISABLED", "TRACEPARENT"),
    *(f"OTEL_EXPORTER_PROMETHEUS_{name}" for name in ("HOST", "PORT")),
    *(
        f"OTEL_EXPORTER_OTLP_{signal}{name}"
        for signal in ("", "TRACES_")
        for name in (
            *("ENDPOINT", "HEADERS", "PROTOCOL", "TIMEOUT", "COMPRESSION", "INSECURE"),
            *("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"),
        )
    ),
    *("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "OTEL_METRIC_EXPORT_INTERVAL"),
    *("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "OTEL_SERVICE_NAME"),
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
]


@pytest.mark.parametrize("value", [SECRET, f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n", f"key={SECRET},{SECRET}"])
@pytest.mark.parametrize("name", VARIABLES)
def test_a_key_in_the_wrong_variable_ends_no_program_and_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    name: str,
    value: str,
) -> None:
    """Programs under `sidestream run` or `install()` continue; a sidecar made in code may raise."""
    forget()
    monkeypatch.setenv("SIDESTREAM_EXPORTERS", "otlp:http://127.0.0.1:9?metrics=true,prometheus:127.0.0.1:0")
    monkeypatch.setenv(name, value)
    with caplog.at_level("DEBUG"):
        sidestream.install()
        sidestream.uninstall()
        refused = ""
        try:
            Sidecar().close()
        except ConfigurationError as error:
            refused = str(error)
    assert SECRET not in refused
    assert SECRET not in caplog.text
    assert SECRET not in "".join(capfd.readouterr())
