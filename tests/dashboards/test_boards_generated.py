"""The committed files are what the builder makes, what Grafana's models can hold, and bound to the table of metrics."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.build import files
from dashboards.frame import TITLES
from dashboards.panels import BOARD
from dashboards.queries import Scope
from sidestream.metrics.definitions import BY_NAME
from tests.support.board_files import FOLDER, GENERATED, RULES, SERIES, boards, selectors

register_default_plugins()


def test_regenerating_changes_nothing() -> None:
    """If it does: `python -m dashboards.build`, and commit what it wrote."""
    made = files()
    assert {name: (FOLDER / name).read_text("utf-8") for name in made} == made
    generated = {name.removeprefix("generated/") for name in made if name.startswith("generated/")}
    assert {path.name for path in GENERATED.iterdir()} == generated


@pytest.mark.parametrize("uid", TITLES)
def test_a_board_goes_through_the_models_of_grafana_unchanged(uid: str) -> None:
    board = boards()[uid]
    encoded = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
    assert encoded == {key: value for key, value in board.items() if key != "id"}


class TestNames:
    def test_those_in_rules_are_in_the_table_or_recorded_by_a_rule(self) -> None:
        rules = [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]
        for rule in rules:
            assert {each.name for each in selectors(rule["expr"])} <= set(SERIES), rule

    def test_those_in_provisioned_queries_are_in_the_table(self) -> None:
        text = (FOLDER / "provisioning/datasources/sidestream.yaml").read_text("utf-8")
        queries = [line.partition("query: ")[2] for line in text.splitlines() if "query: " in line]
        asked = {each.name for query in queries for each in selectors(query) if "job=" not in query}
        assert asked
        assert asked <= set(SERIES)

    def test_a_metric_that_is_renamed_cannot_be_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(BY_NAME, "sidestream_runs_total")
        with pytest.raises(LookupError, match="no metric 'sidestream_runs_total'"):
            Scope()["sidestream_runs_total"]

    @pytest.mark.parametrize("name", ["sidestream_runs_total", "gen_ai_execute_tool_duration_seconds"])
    def test_a_metric_that_is_renamed_stops_the_builder(self, name: str) -> None:
        rename = (
            "import sidestream.metrics.definitions as m; "
            f"m.BY_NAME['renamed'] = m.BY_NAME.pop({name!r}); import dashboards.build"
        )
        done = subprocess.run([sys.executable, "-c", rename], cwd=FOLDER.parent, capture_output=True, text=True)
        assert done.returncode
        assert f"no metric {name!r}" in done.stderr

    def test_a_label_that_is_renamed_cannot_be_asked_for(self) -> None:
        with pytest.raises(LookupError, match="no label"):
            BOARD["sidestream_runs_total"].rate("model")
        with pytest.raises(LookupError, match="no label"):
            BOARD["sidestream_runs_total"].rate(tool="=x")

    def test_a_part_of_a_histogram_that_there_is_not_cannot_be_asked_for(self) -> None:
        with pytest.raises(LookupError, match="no series"):
            BOARD["sidestream_runs_total"].quantile(0.5)
        with pytest.raises(LookupError, match="not a gauge"):
            BOARD["sidestream_runs_total"].now()
