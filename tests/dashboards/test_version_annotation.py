"""Annotation of new versions, evaluated by promtool each minute over scripted scrapes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from dashboards.frame import new_version
from tests.support.prometheus_server import require

OLD, LATER = "0x240", "0x60 3630x180"
"""Start times of a program that runs all the time, and of one that restarts half a minute after the first hour."""

CASES = {
    "an upgrade": ({"a 1": "1x60", "a 2": "_x61 1x60"}, {"a": LATER}, {61: "2", 62: "2"}),
    "a restart of the same version": ({"a 1": "1x120"}, {"a": LATER}, {}),
    "a gap in the scrapes": ({"a 1": "1x60 _x60 1x60"}, {"a": OLD}, {}),
    "a gap in the scrapes of the only program of a version": (
        {"a 1": "1x180", "b 2": "1x60 _x60 1x60"},
        {"a": OLD, "b": OLD},
        {},
    ),
    "a rollback after half an hour": (
        {"a 1": "1x30 _x30 1x60", "a 2": "_x31 1x29"},
        {"a": LATER.replace("0x60", "0x30 1830x29")},
        {31: "2", 32: "2", 61: "1", 62: "1"},
    ),
    "a rollout, host by host": (
        {"a 1": "1x60", "a 2": "_x61 1x60", "b 1": "1x65", "b 2": "_x66 1x60"},
        {"a": LATER, "b": "0x65 3930x60"},
        {61: "2", 62: "2"},
    ),
}
"""Samples of each minute by instance and version, start times by instance, and versions marked by minute."""


@pytest.mark.parametrize(("builds", "starts", "marks"), CASES.values(), ids=CASES)
def test_new_versions_are_marked(
    tmp_path: Path, builds: dict[str, str], starts: dict[str, str], marks: dict[int, str]
) -> None:
    series = []
    for key, values in builds.items():
        instance, version = key.split()
        labels = f'job="shop",instance="{instance}",version="{version}"'
        series.append({"series": f"sidestream_build_info{{{labels}}}", "values": values})
    for instance, values in starts.items():
        labels = f'job="shop",instance="{instance}"'
        series.append({"series": f"sidestream_start_time_seconds{{{labels}}}", "values": values})
    case = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {
                "expr": new_version("sidestream_build_info", "sidestream_start_time_seconds"),
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": f'{{job="shop",version="{marks[minute]}"}}', "value": 1}]
                if minute in marks
                else [],
            }
            for minute in range(150)
        ],
    }
    (tmp_path / "cases.yaml").write_text(json.dumps({"rule_files": [], "tests": [case]}), "utf-8")
    done = subprocess.run(
        [require("promtool"), "test", "rules", "cases.yaml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
