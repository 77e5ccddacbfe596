"""docs/metrics.md: generated from the table, with queries that Prometheus accepts."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from sidestream.metrics.definitions import BY_NAME, LABELS, METRICS
from tests.support.metrics_page import PAGE, QUERIES, made
from tests.support.prometheus_server import require


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == made(), "run: python -m tests.support.metrics_page"


def test_every_label_is_explained_and_none_that_there_is_not() -> None:
    assert set(LABELS) == {label for metric in METRICS for label in metric.labels}


def test_the_queries_on_the_page_ask_for_metrics_that_there_are(tmp_path: Path) -> None:
    promtool = require("promtool")
    series = {name for metric in METRICS for name in metric.series}
    for query in QUERIES.values():
        assert set(re.findall(r"(?:gen_ai|sidestream)_\w+(?=[\[{])", query)) <= series, query
    rules = [{"record": f"job:query:{number}", "expr": query} for number, query in enumerate(QUERIES.values())]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "page", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", "--lint-fatal", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_follow_the_rules_of_prometheus() -> None:
    for metric in METRICS:
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        assert metric.unit != "s" or "_seconds" in metric.name, metric.name
        assert list(metric.buckets) == sorted(set(metric.buckets))
    assert len(BY_NAME) == len(METRICS)
