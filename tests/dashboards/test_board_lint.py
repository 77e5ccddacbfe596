"""Rules of Grafana Labs' dashboard linter, and further rules of the project, for every board and panel."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from dashboards.queries import WATCHED
from sidestream.events.outcomes import OUTCOMES
from tests.support.board_files import (
    LOGS,
    PROMETHEUS,
    SERIES,
    TRACES,
    Asked,
    Json,
    boards,
    links,
    panels,
    queries,
    selectors,
)

BOARDS = boards()
BUILT_IN = {
    "__url_time_range",
    "__from",
    "__to",
    "__value.raw",
    "__data.fields.Tag",
    "__data.fields.traceIdHidden",
    "__field.labels.outcome",
}
CHOSEN = {PROMETHEUS: "${datasource}", LOGS: "${logs}", TRACES: "${traces}"}
"""Variable of a data source, by kind."""

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
panels_of_each_board = pytest.mark.parametrize(
    "shown", [[panel for uid, panel in panels() if uid == board] for board in BOARDS], ids=BOARDS
)
queries_of_each_board = pytest.mark.parametrize(
    "asked", [[query for query in queries() if query.board == board] for board in BOARDS], ids=BOARDS
)


def variables(board: Json) -> dict[str, Json]:
    return {variable["name"]: variable for variable in board["templating"]["list"]}


@each_board
class TestBoards:
    def test_can_be_provisioned_as_a_file(self, board: Json) -> None:
        """No inputs to fill in, no id of some other Grafana, not to be edited in place."""
        assert "__inputs" not in board
        assert board["id"] is None
        assert board["uid"].startswith("sidestream-")
        assert board["editable"] is False
        assert board["schemaVersion"] <= 42

    def test_the_data_source_is_a_variable(self, board: Json) -> None:
        source = variables(board)["datasource"]
        assert (source["type"], source["query"]) == ("datasource", "prometheus")

    @pytest.mark.parametrize("name", ["job", "instance"])
    def test_targets_can_be_chosen(self, board: Json, name: str) -> None:
        variable = variables(board)[name]
        assert variable["label"] == name.capitalize()
        assert variable["multi"] is True
        assert variable["includeAll"] is True
        assert variable["allValue"] == ".+"
        assert variable["datasource"]["uid"] == "${datasource}"

    def test_choices_follow_the_time_range(self, board: Json) -> None:
        chosen = [each for each in variables(board).values() if each["type"] == "query"]
        assert {each["refresh"] for each in chosen} == {2}

    def test_no_value_of_a_variable_is_saved(self, board: Json) -> None:
        assert not [name for name, variable in variables(board).items() if "current" in variable]

    def test_panels_have_ids_of_their_own_and_do_not_overlap(self, board: Json) -> None:
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        taken: Counter[tuple[int, int]] = Counter()
        for panel in board["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24, panel["title"]
            taken.update((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"]))
        assert max(taken.values()) == 1

    def test_titles_are_not_used_twice(self, board: Json) -> None:
        titles = Counter((panel["title"], panel["type"]) for panel in board["panels"])
        assert max(titles.values()) == 1

    def test_leads_to_the_other_boards_and_keeps_variables_and_time(self, board: Json) -> None:
        [link] = [link for link in board["links"] if link["type"] == "dashboards"]
        assert set(link["tags"]) <= set(board["tags"])
        assert link["includeVars"] is True
        assert link["keepTime"] is True

    def test_links_lead_somewhere(self, board: Json) -> None:
        """To a board there is, setting variables it has; from variables that this one has."""
        known = {*variables(board), *BUILT_IN}
        for url in links(board):
            used = {each.partition(":")[0] for each in re.findall(r"\$\{([^}]+)\}", url)}
            assert used <= known, url
            if target := re.match(r"/d/([\w-]+)\?", url):
                assert set(re.findall(r"var-(\w+)=", url)) <= set(variables(BOARDS[target[1]])), url
                carried = set(re.findall(r"\$\{(\w+):queryparam\}|var-(\w+)=", url))
                assert {name for pair in carried for name in pair if name} >= {"job", "instance", "agent", "model"}
            else:
                assert url.startswith("${review}/"), url

    def test_alerts_starts_and_versions_are_on_the_time_axis(self, board: Json) -> None:
        marks = {each["name"]: each["expr"] for each in board["annotations"]["list"]}
        assert set(marks) == {"Alerts", "Starts", "Versions"}
        assert "ALERTS{" in marks["Alerts"]

    def test_shows_whether_the_numbers_can_be_believed(self, board: Json) -> None:
        assert {"Events dropped", "Age of the last scrape"} <= {panel["title"] for panel in board["panels"]}


@panels_of_each_board
class TestPanels:
    def test_explains_itself(self, shown: list[Json]) -> None:
        for panel in shown:
            assert panel["title"], panel["title"]
            assert len(panel["description"]) > 20, panel["title"]
            assert panel["description"].endswith("."), panel["title"]

    def test_has_a_unit(self, shown: list[Json]) -> None:
        for panel in shown:
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]

    def test_says_what_is_too_much(self, shown: list[Json]) -> None:
        """Or, with a single colour, that nothing is. Grafana's own default would be: red from 80 on."""
        for panel in shown:
            steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert steps[0]["value"] is None, panel["title"]
            values = [step["value"] for step in steps[1:]]
            assert values == sorted(values), panel["title"]

    def test_has_words_for_emptiness(self, shown: list[Json]) -> None:
        for panel in shown:
            assert panel["fieldConfig"]["defaults"]["noValue"], panel["title"]

    def test_words_for_an_empty_panel_are_not_in_the_cells_of_a_table(self, shown: list[Json]) -> None:
        """Grafana puts a table's `noValue` into every cell without a value."""
        for panel in shown:
            if panel["type"] == "table":
                assert panel["fieldConfig"]["defaults"]["noValue"] == "–", panel["title"]

    def test_emptiness_is_not_green(self, shown: list[Json]) -> None:
        """A stat without a value has the colour of its lowest step, unless a mapping gives it one."""
        for panel in shown:
            if panel["type"] == "stat":
                [mapping] = panel["fieldConfig"]["defaults"]["mappings"]
                assert mapping["options"]["match"] == "null+nan", panel["title"]
                assert mapping["options"]["result"]["color"] in ("text", "red"), panel["title"]
                assert mapping["options"]["result"]["text"] == panel["fieldConfig"]["defaults"]["noValue"]

    def test_axis_of_a_line_at_zero_is_not_a_hundred_high(self, shown: list[Json]) -> None:
        for panel in shown:
            if panel["type"] == "timeseries":
                assert panel["fieldConfig"]["defaults"]["custom"]["axisSoftMax"] > 0, panel["title"]

    def test_faults_are_red(self, shown: list[Json]) -> None:
        for panel in shown:
            overrides = panel["fieldConfig"].get("overrides", ())
            fixed = {
                override["matcher"]["options"]: value["value"]["fixedColor"]
                for override in overrides
                for value in override["properties"]
                if value["id"] == "color"
            }
            legends = {target.get("legendFormat") for target in panel["targets"]}
            for name, outcome in OUTCOMES.items():
                drawn = name in legends or (panel["type"] == "timeseries" and "{{outcome}}" in legends)
                if drawn and outcome.verdict == "fault":
                    assert "red" in fixed[name], (panel["title"], name)

    def test_failures_are_never_green(self, shown: list[Json]) -> None:
        """A chart of failures by some label has no palette, whose first colour is green."""
        failing = re.compile(r'error_type!=""|outcome="error"|state="dropped"|failures_total|recording_errors_total')
        for panel in shown:
            legends = {target.get("legendFormat", "") for target in panel["targets"]}
            asked = " ".join(target.get("expr", "") for target in panel["targets"])
            if panel["type"] == "timeseries" and failing.search(asked) and any("{{" in legend for legend in legends):
                assert panel["fieldConfig"]["defaults"]["color"]["mode"] == "continuous-YlRd", panel["title"]

    def test_columns_of_a_table_fit_its_width(self, shown: list[Json]) -> None:
        """At 1,400 pixels. Grafana makes columns at least 150 pixels wide, unless told otherwise."""
        for panel in shown:
            if panel["type"] == "table" and panel["datasource"]["type"] == PROMETHEUS:
                config = panel["fieldConfig"]
                wide = [
                    value["value"]
                    for override in config["overrides"]
                    for value in override["properties"]
                    if value["id"] in ("custom.minWidth", "custom.width")
                ]
                numbers = len(panel["targets"]) * config["defaults"]["custom"]["minWidth"]
                assert numbers + sum(wide) <= panel["gridPos"]["w"] * 1_400 / 24, panel["title"]

    def test_charts_draw_a_bounded_number_of_agents_models_and_tools(self, shown: list[Json]) -> None:
        named = re.compile(r"by \((?:le, )?[^)]*(?:agent|model|tool)")
        for panel in shown:
            for target in panel["targets"]:
                if panel["type"] in ("timeseries", "stat", "bargauge") and named.search(target["expr"]):
                    assert "topk(" in target["expr"], panel["title"]

    def test_asks_the_data_source_that_is_chosen(self, shown: list[Json]) -> None:
        for panel in shown:
            sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert all(source["uid"] == CHOSEN[source["type"]] for source in sources), panel["title"]


@queries_of_each_board
class TestQueries:
    def test_every_series_is_in_the_table_of_metrics(self, asked: list[Asked]) -> None:
        for query in asked:
            assert selectors(query.expr), str(query)
            assert {each.name for each in selectors(query.expr)} <= set(SERIES), str(query)

    def test_every_selector_is_bound_to_the_chosen_targets(self, asked: list[Asked]) -> None:
        for query in asked:
            for each in selectors(query.expr):
                assert 'job=~"$job"' in each.matchers, str(query)
                assert 'instance=~"$instance"' in each.matchers, str(query)

    def test_rates_are_over_an_interval_that_fits_the_zoom(self, asked: list[Asked]) -> None:
        for query in asked:
            windows = {each.window for each in selectors(query.expr)}
            assert windows <= {"", "[$__rate_interval]", "[$__range]", f"[{WATCHED}]"}, str(query)

    def test_counters_are_asked_for_what_they_grew(self, asked: list[Asked]) -> None:
        """By `rate` or `increase`; and for a series that is new in the range, by its first value."""
        for query in asked:
            for each in selectors(query.expr):
                if SERIES[each.name].kind == "gauge":
                    assert not each.window or each.function in ("last_over_time", "present_over_time"), str(query)
                    continue
                selector = re.escape(f"{each.name}{each.matchers}")
                first = rf"min_over_time\({selector}\[\$__range\]\) unless present_over_time\({selector}\[{WATCHED}\]"
                inside = [match.span() for match in re.finditer(first, query.expr)]
                assert each.function in ("rate", "increase") or any(a <= each.at < b for a, b in inside), each

    def test_quantiles_are_of_buckets_added_up(self, asked: list[Asked]) -> None:
        for query in asked:
            for each in selectors(query.expr):
                if each.name.endswith("_bucket"):
                    assert re.search(r"sum by \(le[,)]", query.expr), str(query)
            if "histogram_quantile" in query.expr:
                assert "[$__range]" not in query.expr.partition(" and on (")[0], str(query)

    def test_legends_name_labels_that_the_query_keeps(self, asked: list[Asked]) -> None:
        for query in asked:
            named = set(re.findall(r"\{\{(\w+)\}\}", query.target.get("legendFormat", "")))
            kept = {label for group in re.findall(r"by \(([^)]*)\)", query.expr) for label in group.split(", ")}
            assert named <= kept, str(query)


def test_every_metric_of_the_table_is_on_a_board() -> None:
    """Metrics that are renamed, or left out of the boards, fail this test."""
    shown = {SERIES[each.name].name for query in queries() for each in selectors(query.expr)}
    assert shown == {metric.name for metric in SERIES.values()}
