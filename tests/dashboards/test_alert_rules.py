"""The rules, by `promtool`: each alert fires on its fault alone, and a rule that is changed is noticed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards.rules import ALERTS, FLEET, FLEET_RULES_FILE, NATIVE_RULES_FILE, RULES_FILE, Alert, rules_text
from tests.support.board_files import RULES
from tests.support.paths import ROOT
from tests.support.prometheus_server import require

pytestmark = pytest.mark.scenario_28

CASES = Path(__file__).with_name("alerts.test.yaml")

MUTATIONS = [
    ("a failing agent, and one that is well", "> 0.05 and", "> 0.3 and"),
    ("a failing agent, and one that is well", "error|timed_out", "timed_out"),
    ("a failing agent, and one that is well", "severity: page", "severity: ticket"),
    ("a single failed run of an agent that hardly runs", ">= 5", ">= 0"),
    ("a slow model", "histogram_quantile(0.95", "histogram_quantile(0.5"),
    ("money on fire", "rate1h > 10", "rate5m > 10"),
    (
        "the first request to a model nobody knows, which is when its series begins",
        "min_over_time",
        "0 * min_over_time",
    ),
    ("nothing is dropped, and scrapes are out for 20 minutes", "[1d] offset 10m) and", "[1m] offset 10m) and"),
    ("an old program under a Prometheus made anew, or under another name", " > time() - ", " < time() - "),
    (
        "the first drop of an old program that has long been watched",
        " or present_over_time(",
        " and on (job, instance) absent_over_time(",
    ),
    ("one of two programs is not reached", "up == 0 and", "up == 1 and"),
    ("one of two programs is not reached", "present_over_time(sidestream_build_info[1d])", "up"),
    ("an exporter that loses events", "by (job, exporter, reason)", "by (job, exporter)"),
    ("exporters that fail and hang", "sidestream_exporter_failing", "sidestream_exporter_failed"),
    ("exporters that fail and hang", "for: 5m", "for: 0m"),
]
"""A case, and a change that it must notice."""


def verdict(tmp_path: Path, rules: str, case: str | None = None) -> subprocess.CompletedProcess[str]:
    """Result of promtool for the rules in every case, or in one. Runbooks in the cases come from the alerts."""
    text = CASES.read_text("utf-8")
    for alert in ALERTS:
        text = text.replace(f"RUNBOOK {alert.name}\n", f"{json.dumps(alert.runbook, ensure_ascii=False)}\n")
    cases = yaml.safe_load(text)
    if case is not None:
        cases["tests"] = [each for each in cases["tests"] if each["name"] == case]
        assert cases["tests"], f"there is no case {case!r}"
    (tmp_path / "sidestream.rules.yaml").write_text(rules, "utf-8")
    (tmp_path / "cases.yaml").write_text(json.dumps(cases), "utf-8")
    return subprocess.run(
        [require("promtool"), "test", "rules", "cases.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )


def test_each_alert_fires_on_its_fault(tmp_path: Path) -> None:
    done = verdict(tmp_path, RULES.read_text("utf-8"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("case", "old", "new"), MUTATIONS)
def test_a_rule_that_is_changed_does_not_pass(tmp_path: Path, case: str, old: str, new: str) -> None:
    assert old in rules_text()
    done = verdict(tmp_path, rules_text().replace(old, new), case)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED" in done.stdout + done.stderr


@pytest.mark.parametrize("name", [RULES_FILE, FLEET_RULES_FILE, NATIVE_RULES_FILE])
def test_the_rules_are_clean(name: str) -> None:
    done = subprocess.run(
        [require("promtool"), "check", "rules", "--lint-fatal", str(RULES.with_name(name))],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_for_fleets_drop_the_instance() -> None:
    assert all("instance" not in record.expr for record in FLEET)


def test_every_alert_has_a_case() -> None:
    cases = yaml.safe_load(CASES.read_text("utf-8"))
    tested = {case["alertname"] for group in cases["tests"] for case in group["alert_rule_test"] if case["exp_alerts"]}
    assert tested == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_says_what_to_do(alert: Alert) -> None:
    assert len(alert.runbook) > 100
    assert f"## {alert.name}\n" in (ROOT / "docs/alerts.md").read_text("utf-8")
