"""The deployment examples are correct."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from sidestream.cli.app import app
from sidestream.log.forwarding.collect import Collector

DEPLOY = Path(__file__).parents[3] / "deploy"


def unit() -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)$", (DEPLOY / "sidestream-collect.service").read_text("utf-8"), re.MULTILINE)
    return shlex.split(line)[1:]


def container() -> list[str]:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    parts = [json.loads(found) for found in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", text, re.MULTILINE)]
    return [word for part in parts for word in part][1:]


@pytest.mark.parametrize("command", [unit(), container()], ids=["unit", "container"])
def test_the_command_starts_a_collector(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def start(self: Collector) -> None:
        started.append(self)
        self._stop.set()

    monkeypatch.setattr(Collector, "start", start)
    folders = {"/var/lib/sidestream-collect": tmp_path / "state", "/state": tmp_path / "state"}
    done = CliRunner().invoke(app, [str(folders.get(word, word)) for word in command])
    assert done.exit_code == 0, done.output
    assert [sorted(collector.stats().exporters) for collector in started] == [["otlp", "prometheus"]]


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = (DEPLOY / "sidestream-collect.service").read_text("utf-8")
    there = tmp_path / "sidestream-collect.service"
    there.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE), "utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(there)], capture_output=True, text=True, timeout=60)
    assert "sidestream-collect.service" not in done.stderr, done.stderr


def test_the_containers_share_the_folder_of_the_log() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
    assert "runs:/runs" in services["app"]["volumes"]
    assert "runs:/runs" in services["collect"]["volumes"]
    assert services["app"]["environment"]["SIDESTREAM_EXPORTERS"] == "jsonl:/runs/"
    assert services["app"]["user"] == "10001", "the log is readable by its owner alone"
