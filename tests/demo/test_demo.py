"""`sidestream demo`, end to end, as a user runs it: a process of its own, real HTTP, a real log."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sidestream.cli import app as cli
from sidestream.demo.script import answer
from sidestream.demo.server import ModelServer
from sidestream.events import AgentEnd, AgentStart, LLMEnd, Retry, StreamEvent, decode_line

pytest.importorskip("openai")

COMMAND = [sys.executable, "-c", "from sidestream.cli import main; main()", "demo"]


def environment(**changes: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith("_API_KEY") and not name.startswith(("OPENAI_", "SIDESTREAM_", "OTEL_", "PYTEST_"))
    }
    return {**kept, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8", **changes}


def demo(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@dataclass
class Performance:
    folder: Path
    process: subprocess.CompletedProcess[str]

    @property
    def log(self) -> Path:
        [log] = (self.folder / "runs").iterdir()
        return log

    @property
    def events(self) -> list[StreamEvent]:
        return [decode_line(line) for line in self.log.read_bytes().splitlines()]

    def of(self, kind: type) -> list[StreamEvent]:
        return [event for event in self.events if isinstance(event.data, kind)]


@pytest.fixture(scope="module")
def performance(tmp_path_factory: pytest.TempPathFactory) -> Performance:
    """One fast performance, behind a proxy that does not exist, for all the tests that only look at it."""
    folder = tmp_path_factory.mktemp("demo")
    return Performance(folder, demo(folder, "--fast", HTTP_PROXY="http://127.0.0.1:9", ALL_PROXY="http://127.0.0.1:9"))


class TestLog:
    def test_outcomes(self, performance: Performance) -> None:
        """Every way in which a run can end is in the log, once each, and the process succeeds."""
        assert performance.process.returncode == 0, performance.process.stderr
        ends = performance.of(AgentEnd)
        assert sorted(event.data.outcome for event in ends) == [
            "abandoned", "cancelled", "completed", "completed", "completed", "completed", "completed", "error",
        ]  # fmt: skip
        assert len({event.run_id for event in ends}) == len(ends) == len(performance.of(AgentStart))

    def test_sequence(self, performance: Performance) -> None:
        """No run has a gap."""
        numbers: dict[str, list[int]] = {}
        for event in performance.events:
            numbers.setdefault(event.run_id, []).append(event.seq)
        assert all(seqs == list(range(len(seqs))) for seqs in numbers.values())

    def test_retry(self, performance: Performance) -> None:
        """One run completes after a tool has sent the model back."""
        [retry] = performance.of(Retry)
        assert (retry.data.cause, retry.data.tool_name) == ("model_retry", "look_up_order")
        [end] = [event for event in performance.of(AgentEnd) if event.run_id == retry.run_id]
        assert (end.data.outcome, end.data.retries) == ("completed", 1)

    def test_sub_agent(self, performance: Performance) -> None:
        """The billing agent's run is a child of the support run whose tool called it, and is counted with it."""
        [child] = [event for event in performance.of(AgentStart) if event.agent_name == "billing"]
        [parent] = [event for event in performance.of(AgentEnd) if event.run_id == child.data.parent_run_id]
        assert parent.agent_name == "support"
        assert parent.data.sub_agents == 1
        assert child.data.parent_tool_call_id
        assert parent.data.cost_usd_with_children > parent.data.cost_usd > 0

    def test_usage(self, performance: Performance) -> None:
        """Answers that came whole have tokens, a cost, and a time to first token if streamed; the others have none."""
        for event in performance.of(LLMEnd):
            if event.data.outcome == "ok":
                assert event.data.usage.input_tokens > 0
                assert event.data.cost_usd > 0
                assert bool(event.data.time_to_first_token_seconds) == event.data.streaming
            else:
                assert event.data.cost_usd is None
        details = [event.data.usage for event in performance.of(LLMEnd) if event.data.usage]
        assert any(usage.cache_read_tokens for usage in details)
        assert any(usage.reasoning_tokens for usage in details)

    def test_failure(self, performance: Performance) -> None:
        """The failed run failed in mid-stream, after some text had come."""
        [end] = [event for event in performance.of(LLMEnd) if event.data.outcome == "error"]
        assert end.data.time_to_first_token_seconds["text"] > 0


class TestOutput:
    def test_live(self, performance: Performance) -> None:
        """stderr announces each scene, shows the runs live, and says what the caller got; nothing else is there."""
        live = performance.process.stderr
        assert re.findall(r"^(\d)/6 ", live, re.MULTILINE) == list("123456")
        for word in ("support", "billing", "look_up_order", "completed", "cancelled", "abandoned"):
            assert word in live
        assert "The caller got ModelServerError, as it would have without the sidecar." in live
        for trouble in ("Traceback", "never retrieved", "Warning", "\x1b"):
            assert trouble not in live

    def test_summary(self, performance: Performance) -> None:
        """stdout has a line per run, sub-agents below their parent, and the books of each exporter, which balance."""
        summary = performance.process.stdout
        runs = re.findall(r"^( *)(support|billing) \w{4} +([a-z]+)(, 1 retry)? +(\S+) +(\S+)", summary, re.MULTILINE)
        assert [(run[1], run[2], bool(run[3])) for run in runs] == [
            ("support", "completed", False),
            ("billing", "completed", False),
            ("support", "completed", True),
            ("support", "completed", False),
            ("support", "completed", False),
            ("support", "error", False),
            ("support", "cancelled", False),
            ("support", "abandoned", False),
        ]
        assert [run[0] for run in runs] == ["", "  ", *[""] * 6]
        assert {run[5] for run in runs if run[2] != "completed"} == {"unknown"}
        assert all(float(run[5].removeprefix("$")) > 0 for run in runs if run[2] == "completed")
        for exporter in ("console", "jsonl"):
            found = re.search(rf"^{exporter} +(\d+) +(\d+) +0 +0$", summary, re.MULTILINE)
            assert found
            assert found[1] == found[2]
        assert summary.isascii()

    def test_exporter_counts(self, performance: Performance) -> None:
        """The log contains as many events as its exporter counted."""
        found = re.search(r"^jsonl +\d+ +(\d+)", performance.process.stdout, re.MULTILINE)
        assert found
        assert int(found[1]) == len(performance.events)

    @pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
    def test_advice(self, performance: Performance) -> None:
        """The jq line works on the log as it is printed."""
        found = re.search(r"(jq .*)$", performance.process.stdout, re.MULTILINE)
        assert found
        output = subprocess.run(shlex.split(found[1]), cwd=performance.folder, capture_output=True, check=True).stdout
        rows = [json.loads(line) for line in output.splitlines()]
        assert len(rows) == 8
        assert sum(cost or 0 for *_, cost in rows) > 0


class TestOptions:
    def test_json(self, tmp_path: Path) -> None:
        """With `--json`, stdout is one JSON object; with `--out` and `--exporter`, logs go where they say."""
        process = demo(tmp_path, "--fast", "--json", "--verbose", "--out", "a/b.jsonl", "--exporter", "jsonl:more/")
        summary = json.loads(process.stdout)
        assert process.returncode == 0
        assert len(summary["runs"]) == 8
        assert summary["runs"][0]["time_to_first_token_seconds"] > 0
        assert (summary["recording_errors"], summary["skipped"], summary["interrupted"]) == (0, [], False)
        assert list(summary["exporters"]) == ["console", "jsonl", "jsonl-2"]
        assert Path(summary["log"]) == Path("a/b.jsonl")
        written = (tmp_path / "a/b.jsonl").read_bytes().count(b"\n")
        assert summary["exporters"]["jsonl"]["exported"] == written
        assert sum(path.read_bytes().count(b"\n") for path in (tmp_path / "more").iterdir()) == written
        assert "pannier bag, 89.00 EUR, shipped on Monday" in process.stderr, "--verbose shows what tools return"

    def test_real_model(self, tmp_path: Path) -> None:
        """With `--model`, a real provider is used; scenes that need the scripted model are skipped and listed."""

        async def run() -> tuple[int | None, bytes]:
            async with ModelServer(answer, speed=100) as server:
                process = await asyncio.create_subprocess_exec(
                    *COMMAND, "--fast", "--json", "--model", "openai-chat:gpt-5-mini",
                    cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    env=environment(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="demo", NO_PROXY="127.0.0.1"),
                )  # fmt: skip
                stdout, _ = await process.communicate()
                return process.returncode, stdout

        code, stdout = asyncio.run(run())
        summary = json.loads(stdout)
        assert code == 0
        assert [run["outcome"] for run in summary["runs"]] == [*["completed"] * 5, "cancelled", "abandoned"]
        [skipped] = summary["skipped"]
        assert "fails" in skipped


class TestMistakes:
    """A setting that cannot work is one line on stderr and exit code 2; nothing is played."""

    def complaint(
        self, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> str:
        monkeypatch.setattr(sys, "argv", ["sidestream", "demo", "--fast", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output = capsys.readouterr()
        assert caught.value.code == 2
        assert output.out == ""
        assert re.fullmatch(r"sidestream: [^\n]+\n", output.err)
        return output.err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--model", "openai-chat:gpt-5-mini"], "OPENAI_API_KEY"),
            (["--model", "nonsense"], "Unknown model"),
            (["--exporter", "nonsense"], "installed are: clickhouse, collect, console"),
            (["--out", __file__], "is a file"),
        ],
    )
    def test_settings(
        self,
        arguments: list[str],
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A missing key, an unknown model or exporter, an unusable path."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        assert message in self.complaint(arguments, monkeypatch, capsys)
        assert list(tmp_path.iterdir()) == []

    def test_no_client(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """Without the openai package, it says what to install."""
        monkeypatch.setitem(sys.modules, "openai", None)
        assert "pip install 'sidestream[demo]'" in self.complaint([], monkeypatch, capsys)

    def test_no_provider(self, tmp_path: Path) -> None:
        """Without the package of the real model's provider, it says what to install, without a traceback."""
        code = "import sys; sys.modules['groq'] = None; from sidestream.cli import main; main()"
        process = subprocess.run(
            [sys.executable, "-c", code, "demo", "--model", "groq:llama"],
            cwd=tmp_path, env=environment(GROQ_API_KEY="demo"), capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        assert process.returncode == 2
        assert "pydantic-ai-slim[groq]" in process.stderr
        assert process.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")
class TestInterruption:
    def test_ctrl_c(self, tmp_path: Path) -> None:
        """Ctrl-C in mid-run ends the run as cancelled, closes the log, sums up what there was, and exits with 130."""
        process = subprocess.Popen(
            [*COMMAND, "--json"],
            cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        )  # fmt: skip
        assert process.stderr is not None
        live = ""
        while "look_up_order" not in live:
            line = process.stderr.readline()
            assert line, live
            live += line
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
        summary = json.loads(stdout)
        assert process.returncode == 130
        assert "Traceback" not in stderr
        assert summary["interrupted"]
        assert [run["outcome"] for run in summary["runs"]] == ["cancelled"]
        last: StreamEvent = decode_line((tmp_path / summary["log"]).read_bytes().splitlines()[-1])
        assert last.event_type == "agent_end"
        assert last.data.outcome == "cancelled"
