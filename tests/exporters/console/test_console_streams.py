"""Console exporter: structured lines, settings, terminals, and streams that reject the output."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TextIO

import pytest
import structlog

from sidestream import diagnostics
from sidestream.errors import ConfigurationError
from sidestream.events import Custom, StreamEvent
from sidestream.pipeline.registry import make_exporter
from sidestream.terminal.text import display_width
from sidestream_exporters.console import ConsoleExporter
from tests.support.console_events import NOON, Run, nested, shown


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


# --- lines for programs --------------------------------------------------------------------------------------------


def test_json_is_one_flat_object_a_line() -> None:
    records = [json.loads(line) for line in shown(nested(), format="json")]
    assert [record["event"] for record in records[:3]] == ["agent_start", "llm_end", "tool_start"]
    request = next(record for record in records if record.get("model") == "gpt-5-mini")
    assert request == {
        "timestamp": (NOON + timedelta(seconds=3)).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": "info", "event": "llm_end", "agent": "researcher", "run_id": "0199-77b1", "seq": 1,
        "root_run_id": "0199-3f9a", "depth": 1, "request": 1, "outcome": "ok", "duration_seconds": 0.94,
        "model": "gpt-5-mini", "usage_source": "provider", "input_tokens": 1204, "output_tokens": 86, "unpriced": True,
    }  # fmt: skip
    assert records[1]["time_to_first_token_seconds"] == 0.41
    assert records[-1]["input_tokens_with_children"] == 14_408
    assert [record["level"] for record in records if record["event"] == "tool_end"] == ["warning", "error", "info"]
    assert not any("prompt" in record or "args" in record or "result" in record for record in records)


def test_json_has_no_value_that_json_lacks() -> None:
    run = Run("r", "a")
    (line,) = shown([run(Custom(name="n", payload=[float("nan"), float("inf"), 1]))], format="json", verbose=True)
    assert json.loads(line)["payload"] == [None, None, 1]


def test_verbose_json_has_the_content() -> None:
    records = [json.loads(line) for line in shown(nested(), format="json", verbose=True)]
    assert records[0]["prompt"] == "What to wear?"
    assert {"llm_start", "final_result"} <= {record["event"] for record in records}


def test_logfmt_carries_plain_values() -> None:
    run = Run("r", "an agent")
    lines = shown([run.start(tags={"team": "a b"}), *nested()], format="logfmt")
    records = [dict(pair.split("=", 1) for pair in shlex.split(line)) for line in lines]
    assert records[0]["agent"] == "an agent"
    assert json.loads(records[0]["tags"]) == {"team": "a b"}
    assert records[2]["cost_usd"] == "0.0031"
    assert records[-1]["success"] == "true"


def test_processors_may_add_leave_out_and_render() -> None:
    def tag(_logger: Any, _method: str, fields: Any) -> Any:
        if fields["event"] == "tool_start":
            raise structlog.DropEvent
        return {**fields, "service": "shop"}

    records = [json.loads(line) for line in shown(nested(), format="json", processors=[tag])]
    assert {record["service"] for record in records} == {"shop"}
    assert not any(record["event"] == "tool_start" for record in records)
    lines = shown(nested(), processors=[lambda _l, method, fields: f"{method} {fields['event']}".encode()])
    assert lines[:2] == ["info agent_start", "info llm_end"]


def test_a_line_for_people_shows_what_processors_made_of_it() -> None:
    """An error masked by a processor stays masked; counts and content are unchanged."""

    def mask(_logger: Any, _method: str, fields: Any) -> Any:
        return {**fields, "error": "***", "agent": "somebody"} if "error" in fields else fields

    run = Run("r", "a")
    events = [run.request(), run.request(2, outcome="error", error="secret")]
    plain, masked = shown(events, processors=[mask], verbose=True), shown(events, processors=[mask])
    assert plain[0] == shown(events)[0]
    for lines in (plain, masked):
        assert "***" in lines[1]
        assert "somebody" in lines[1]
        assert "secret" not in "".join(lines)


def test_a_processor_that_raises_loses_its_line_alone() -> None:
    def picky(_logger: Any, _method: str, fields: Any) -> Any:
        return fields if fields["event"] != "llm_end" else 1 / 0

    stream = io.StringIO()
    exporter = ConsoleExporter(stream=stream, processors=[picky])
    run = Run("r", "a")
    assert exporter.export([run.start(), run.request(), run.end()]) == {"render_failed": 1}
    assert len(stream.getvalue().splitlines()) == 2


def test_the_application_s_structlog_configuration_is_left_alone() -> None:
    before = structlog.get_config()
    shown(nested())
    shown(nested(), format="json")
    assert structlog.get_config() == before
    assert not structlog.is_configured()


# --- settings ------------------------------------------------------------------------------------------------------


def test_it_can_be_made_from_text(capsys: pytest.CaptureFixture[str]) -> None:
    exporter = make_exporter("console:?verbose=true&format=json&stream=stdout&content=truncated(3)")
    assert isinstance(exporter, ConsoleExporter)
    assert str(exporter.content) == "truncated(3)"
    exporter.export([Run("r", "a").start(prompt="p")])
    assert json.loads(capsys.readouterr().out)["prompt"] == "p"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("format=xml", "choose pretty, json, logfmt"),
        ("stream=file", "choose stderr, stdout"),
        ("content=some", "choose none, metadata"),
        ("verbose=perhaps", "verbose='perhaps': it must be a bool"),
        ("processors=x", "processors='x': it must be a Sequence"),
        ("colour=true", "options are: verbose, format, color"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_the_choices(options: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        make_exporter(f"console:?{options}")


# --- terminals and other streams -----------------------------------------------------------------------------------


@contextmanager
def terminal(width: int) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """Pseudo-terminal of `width` columns: the stream to write to, and a function that returns its output."""
    fcntl = pytest.importorskip("fcntl", reason="needs pseudo-terminals")
    import pty
    import select
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

    def read() -> str:
        got = b""  # a terminal delivers the output in arbitrary pieces
        while select.select([master], [], [], 0.2)[0]:
            got += os.read(master, 100_000)
        return got.decode().replace("\r\n", "\n")

    with open(slave, "w", encoding="utf-8") as stream:
        yield stream, read
    os.close(master)


def on_terminal(width: int, events: Iterable[StreamEvent], **options: Any) -> str:
    with terminal(width) as (stream, read):
        exporter = ConsoleExporter(stream=stream, **options)
        exporter.export([event for event in events if event.event_type not in exporter.skip])
        return read()


def test_a_nested_run_on_80_columns() -> None:
    """The columns are narrower; text without room goes below or is left out, and no number is truncated."""
    assert on_terminal(80, nested(), color=False).splitlines() == [
        "12:00:00 planner 3f9a    ▶ gpt-5",
        "12:00:01 planner 3f9a    ✓ gpt-5 #1         1.22s 1.2k→86   $0.0031  ttft 410ms",
        "12:00:02   researc… 77b1 ▶ gpt-5",
        "12:00:03   researc… 77b1 ✓ gpt-5-mini #1    940ms 1.2k→86   unpriced",
        "12:00:03   researc… 77b1 · fetch()           30ms retry no",
        "12:00:03   researc… 77b1 ↻ fetch()          retry 1/3 model_retry",
        "12:00:04   researc… 77b1 ✗ fetch()          3.00s failed",
        "           researc… 77b1 │ ConnectTimeout: connecting to host took too long",
        "12:00:05   researc… 77b1 ✗ error            4.10s 1.2k→86   unpriced ConnectTi…",
        "12:00:05 planner 3f9a    ✓ research()       3.90s",
        "12:00:07 planner 3f9a    ✓ gpt-5 #2         1.22s 12k→9     $0.0031",
        "12:00:07 planner 3f9a    ✓ completed        4.10s 13k→95    $0.0062  2 requests",
        "12:00:07 planner 3f9a    Σ with 1 sub-agent       14k→181   $0.0062",
    ]


@pytest.mark.parametrize("width", [20, 40, 80, 119, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    run = Run("r-1111", "作家" * 20)
    events = [run.start(prompt="巴黎的雨 " * 50), run.chunk("word " * 99), run.request(model="m" * 99, error="e" * 999)]
    lines = on_terminal(width, [*events, *nested()], color=False, verbose=True).splitlines()
    assert max(map(display_width, lines)) < max(width, 55), "content has 20 columns at least"


@pytest.mark.parametrize(
    ("environment", "option", "colored"),
    [
        ({}, None, True),
        ({"NO_COLOR": "1"}, None, False),
        ({"NO_COLOR": ""}, None, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, None, False),
        ({"TERM": "dumb"}, None, False),
        ({"NO_COLOR": "1"}, True, True),
        ({}, False, False),
    ],
)
def test_colours_on_a_terminal(
    environment: dict[str, str], option: bool | None, colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in on_terminal(80, nested(), color=option)) is colored


def test_no_colours_in_a_file_unless_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in "".join(shown(nested()))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" in "".join(shown(nested()))


def test_colours_change_nothing_but_the_colours() -> None:
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in shown(nested(), color=True, verbose=True)]
    assert plain == shown(nested(), color=False, verbose=True)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_stream_that_cannot_show_the_signs_gets_plain_ones(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    exporter = ConsoleExporter(stream=stream, verbose=True)
    exporter.export([Run("r", "a").start(prompt="日本"), *nested()])
    lines = raw.getvalue().decode(encoding).splitlines()
    if encoding == "utf-8":
        assert lines[1].endswith("│  prompt: 日本")
    else:
        assert lines[0][34:] == ">  gpt-5"
        assert lines[1].endswith(r"|  prompt: \u65e5\u672c")
        assert any("1.2k->86" in line for line in lines)


def test_a_program_whose_output_is_ascii_is_not_disturbed() -> None:
    program = (
        "from sidestream import agent_start_event; from sidestream_exporters.console import ConsoleExporter\n"
        "assert ConsoleExporter(stream='stdout').export([agent_start_event('\\xe9', model='m')]) is None"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert done.stdout[10:].split() == [rb"\xe9", b">", b"m"]
    assert done.stderr == b""


def test_stderr_is_looked_up_when_it_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = ConsoleExporter()
    for _ in range(2):
        replaced = io.StringIO()
        monkeypatch.setattr(sys, "stderr", replaced)
        exporter.export([Run("r", "a").start()])
        assert len(replaced.getvalue().splitlines()) == 1


def test_each_batch_is_one_write() -> None:
    class Stream(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            return super().write(text)

    stream = Stream()
    ConsoleExporter(stream=stream).export(list(nested()))
    assert stream.writes == 1


def test_a_closed_stream_is_given_up_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    diagnostics.forget()
    stream = io.StringIO()
    exporter = ConsoleExporter(stream=stream)
    stream.close()
    run = Run("r", "a")
    assert exporter.export([run.start(), run.request()]) == {"stream_failed": 2}
    assert exporter.export([run.end()]) == {"no_stream": 1}
    exporter.close()
    assert sum("console stream is gone" in record.message for record in caplog.records) == 1


def test_a_broken_pipe_is_given_up() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8", closefd=False) as stream:
        exporter = ConsoleExporter(stream=stream)
        run = Run("r", "a")
        assert exporter.export([run.start()]) == {"stream_failed": 1}
        assert exporter.export([run.end()]) == {"no_stream": 1}
        assert not exporter._runs, "runs are followed all the same"
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, writer)  # discards the stream's buffer
    os.close(null)
    os.close(writer)


def test_a_new_stderr_is_used_after_the_old_one_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    broken, sound = io.StringIO(), io.StringIO()
    broken.close()
    exporter = ConsoleExporter()
    monkeypatch.setattr(sys, "stderr", broken)
    assert exporter.export([Run("r", "a").start()]) == {"stream_failed": 1}
    monkeypatch.setattr(sys, "stderr", sound)
    assert exporter.export([Run("r", "a").start()]) is None
    assert sound.getvalue()


def test_a_program_without_stderr_is_not_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    exporter = ConsoleExporter()
    assert exporter.export([Run("r", "a").start()]) == {"no_stream": 1}
    exporter.close()


def test_after_a_fork_the_parent_s_half_lines_are_the_parent_s() -> None:
    stream = io.StringIO()
    exporter = ConsoleExporter(stream=stream, verbose=True)
    exporter.export([Run("r", "a").chunk("half a line")])
    exporter.after_fork()
    exporter.close()
    assert stream.getvalue() == ""
