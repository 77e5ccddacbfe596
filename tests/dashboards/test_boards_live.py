"""Every query of every panel, variable, rule and link, asked of a real Prometheus about real runs."""

from __future__ import annotations

import json
import re
import tempfile
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from dashboards.panels import REST
from dashboards.rules import RECORDS
from sidestream.cli.commands.dashboards import write_boards
from sidestream.web.app import make_app
from tests.support.board_files import FOLDER, Asked, boards, filled, links, queries
from tests.support.live_prometheus import VARIABLES, WHOLE, FedPrometheus, live_feed, numbers
from tests.support.prometheus_server import wait_for

pytestmark = [pytest.mark.timeout(240), pytest.mark.scenario_28]

COMPARED = "As a share of the period before"
ANY_SIGN = {"Saved by the cache per hour"}
NO_SHARE = {*ANY_SIGN, "Of the budget", COMPARED}


def the_query(board: str, title: str, letter: str = "A") -> Asked:
    return next(q for q in queries() if (q.board, q.panel["title"], q.target["refId"]) == (board, title, letter))


def check_no_panel_is_empty_or_in_error(feed: FedPrometheus) -> None:
    answered = {str(query) for query in feed.answers}
    rest = {
        str(query) for query in queries() if query.target.get("legendFormat") == REST
    }  # there are no more than lead
    assert [str(query) for query in queries() if str(query) not in answered | rest] == []


def check_every_value_is_plausible(feed: FedPrometheus) -> None:
    """Shares within 0 and 1, nothing negative that cannot be."""
    for query, answer in feed.answers.items():
        title, unit = query.panel["title"], query.panel["fieldConfig"]["defaults"]["unit"]
        values = [value for series in answer for value in numbers(series)]
        if title not in ANY_SIGN:
            assert min(values) >= 0, query
        if unit == "percentunit" and title not in NO_SHARE:
            assert max(values) <= 1 + 1e-9, query
        assert max(values) < float("inf"), query


def check_money_and_tokens_are_those_of_the_log(feed: FedPrometheus) -> None:
    """Exactly as counters. `increase` estimates, and rather too much, in so short a time; the first request counts."""
    ends = [event.data for event in feed.log.of("agent_end")]
    usage = [end.usage for end in ends if end.usage]
    expected = {
        "cost_usd_total": sum(end.cost_usd or 0 for end in ends),
        'tokens_total{type="input"}': sum(each.input_tokens or 0 for each in usage),
        'tokens_total{type="output"}': sum(each.output_tokens or 0 for each in usage),
        "unpriced_requests_total": sum(end.unpriced_requests or 0 for end in ends),
    }
    for series, value in expected.items():
        feed.server.until(f"sum(sidestream_{series})", value)
    shown = {
        ("sidestream-cost", "Spent"): expected["cost_usd_total"],
        ("sidestream-cost", "Unpriced requests"): expected["unpriced_requests_total"],
        ("sidestream-fleet", "Runs"): len(ends),
    }
    for (board, title), value in shown.items():
        [shown_value] = numbers(feed.ask(the_query(board, title))[0])
        assert 0.999 * value <= shown_value <= 1.5 * value, title


def check_what_is_seen_is_exported_dropped_or_waits(feed: FedPrometheus) -> None:
    for name, books in feed.sidecar.stats().exporters.items():
        matching = f'{{exporter="{name}"}}'
        feed.server.until(
            f"sum(sidestream_events_total{matching}) + sum(sidestream_queue_events{matching})", books.seen
        )


def check_variables_offer_choices(feed: FedPrometheus) -> None:
    for board in boards().values():
        for variable in board["templating"]["list"]:
            if variable["type"] != "query":
                continue
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert match
            series = filled(match[1], VARIABLES)
            assert feed.server.get(f"label/{match[2]}/values", **{"match[]": series}), variable["name"]


def check_choosing_an_agent_and_a_model_shows_theirs_alone(feed: FedPrometheus) -> None:
    chosen = {**WHOLE, "agent": "support", "model": "(gpt-5-mini|gpt-4)"}
    [answer] = feed.ask(the_query("sidestream-cost", "Spend by agent, provider and model"), chosen)
    assert answer["metric"] == {"agent": "support", "provider": "openai", "model": "gpt-5-mini"}


def check_every_rule_is_evaluated_and_every_record_has_values(feed: FedPrometheus) -> None:
    groups = feed.server.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
    for record in RECORDS:
        wait_for(partial(feed.server.query, record.name), record.name)


def check_dots_on_a_panel_lead_to_the_run(feed: FedPrometheus) -> None:
    """Exemplars carry the labels that the data source makes links of."""
    asked = [query for query in queries() if query.target.get("exemplar")]
    assert asked
    for query in asked:
        found = feed.server.exemplars(filled(query.expr, VARIABLES))
        labels = [set(exemplar["labels"]) for series in found for exemplar in series["exemplars"]]
        assert labels, query
        assert all({"trace_id", "run_id"} <= each for each in labels), query


def check_a_trace_leads_back_to_metrics(feed: FedPrometheus) -> None:
    """The queries of the trace data source, with the values that Grafana puts in from a span."""
    provisioned = yaml.safe_load((FOLDER / "provisioning/datasources/sidestream.yaml").read_text("utf-8"))
    [tempo] = [source for source in provisioned["datasources"] if source["type"] == "tempo"]
    for query in tempo["jsonData"]["tracesToMetrics"]["queries"]:
        expr = query["query"].replace("$$__tags", 'agent="support",model="gpt-5-mini"')
        wait_for(partial(feed.server.query, expr), expr)


def check_links_lead_to_pages_of_the_log(feed: FedPrometheus) -> None:
    """Links of a board lead to the runs shown there; links of a data point to its run and its trace."""
    minute = timedelta(minutes=10)
    values = {
        "${__data.fields.Tag}=${__value.raw}": "tenant=tenant-0",
        "${__from:date:iso}": (datetime.now(UTC) - minute).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "${__to:date:iso}": (datetime.now(UTC) + minute).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "${__value.raw}": "support",
        "${__field.labels.outcome}": "completed",
    }
    with TestClient(
        make_app([str(feed.folder)], token=None, any_host=False), base_url="http://localhost:8765"
    ) as client:
        for url in {url for board in boards().values() for url in links(board) if url.startswith("${review}/?")}:
            for variable, value in values.items():
                url = url.replace(variable, value)
            shown = client.get(url.removeprefix("${review}"))
            assert shown.status_code == 200, url
            assert 'href="/runs/' in shown.text, f"no run on {url}"
            assert 'role="alert"' not in shown.text, url
        [exemplar, *_] = feed.server.exemplars("sidestream_time_to_first_token_seconds_bucket")[0]["exemplars"]
        ids = exemplar["labels"]
        assert ids["run_id"] in client.get(f"/runs/{ids['run_id']}").text
        assert ids["run_id"] in client.get(f"/traces/{ids['trace_id']}").text


def check_another_data_source_changes_nothing_but_its_uid(feed: FedPrometheus) -> None:
    """Boards exported for a data source of some uid ask the same queries, of that one."""
    with tempfile.TemporaryDirectory() as folder:
        write_boards(Path(folder), datasource="k3jx0-random")
        exported, written = queries(Path(folder)), boards(Path(folder))
    assert [query.expr for query in exported] == [query.expr for query in queries()]
    assert {query.target["datasource"]["uid"] for query in exported} == {"k3jx0-random"}
    assert "${datasource" not in json.dumps(written)
    for query in exported:
        if query.target.get("instant") and query.panel["title"] != COMPARED:
            assert feed.ask(query)


CHECKS = [check for name, check in list(globals().items()) if name.startswith("check_")]


def test_boards_over_real_runs(subtests: pytest.Subtests, tmp_path: Path) -> None:
    """One test, for the runs and the server are the same for all, and are made once."""
    with live_feed(tmp_path / "runs") as feed:
        for check in CHECKS:
            with subtests.test(check.__name__):
                check(feed)
