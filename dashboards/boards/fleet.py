"""Board "Fleet overview": how many runs are there, how do they end, what do they cost, and what has changed?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from dashboards.boards.health_row import TITLE, health_row
from dashboards.frame import RUN_BOARD, make_board, to_board, to_review
from dashboards.panels import BOARD, COUNT, FAILED, Column, Query, above, below, count, lines, listing, number, ranked
from dashboards.queries import Expr, none_of, over, share, top

runs = BOARD["sidestream_runs_total"]
progress = BOARD["sidestream_runs_in_progress"]
duration = BOARD["gen_ai_invoke_agent_duration_seconds"]
first = BOARD["sidestream_time_to_first_token_seconds"]
tokens = BOARD["sidestream_tokens_total"]
cost = BOARD["sidestream_cost_usd_total"]
requests = BOARD["sidestream_requests_total"]
unpriced = BOARD["sidestream_unpriced_requests_total"]

FAULTS = "=~error|timed_out"


def _against(now: Expr, before: Expr) -> Expr:
    return f"{now} / ({before} > 0)"


def board() -> dashboard.Dashboard:
    agent_links = [
        to_board("Tools and runs of this agent", "sidestream-tools", agent="${__value.raw}"),
        to_board("Cost of this agent", "sidestream-cost", agent="${__value.raw}"),
        to_review("Its runs in the log", agent="${__value.raw}"),
    ]
    model_links = [
        to_board("Latency of this model", "sidestream-streaming", model="${__value.raw}"),
        to_board("Cost of this model", "sidestream-cost", model="${__value.raw}"),
    ]
    now = [
        number(
            "Runs",
            "Agent runs that ended in this time range, whatever their outcome. Runs of sub-agents count as well.",
            Query(runs.total()),
            unit=COUNT,
            decimals=0,
            links=[to_review()],
        ),
        number(
            "In progress",
            "Runs that have begun and not ended, now.",
            Query(progress.now()),
            unit="short",
            empty="none",
        ),
        number(
            "Completed",
            "Share of the runs that ended with a result. The rest failed, ran out of time, or were cancelled or "
            "abandoned by their caller.",
            Query(share(runs.total(outcome="=completed"), runs.total())),
            unit="percentunit",
            steps=below(0.9, 0.97),
            empty="no runs",
            decimals=1,
        ),
        number(
            "Cost",
            "US dollars spent in this time range on requests whose price is known. See 'Unpriced requests' on the cost "
            "board for the rest.",
            Query(cost.total()),
            unit="currencyUSD",
            empty="nothing priced",
            links=[to_board("Cost and tokens", "sidestream-cost")],
        ),
        number(
            "Cost per hour",
            "US dollars per hour, averaged over this time range.",
            Query(f"{cost.total()} / ($__range_s / 3600)"),
            unit="currencyUSD",
            empty="nothing priced",
        ),
        number(
            "First token, p95",
            "95 % of the streamed requests had their first token within this time, at the end of the time range.",
            Query(first.quantile(0.95)),
            unit="s",
            steps=above(5, 15),
            empty="nothing streamed lately",
            links=[to_board("Streaming latency", "sidestream-streaming")],
        ),
    ]
    changed = [
        number(
            "As a share of the period before",
            "This time range against the one of the same length just before it: 100 % is as much as then, 110 % a "
            "tenth more, 50 % half. It means little while Prometheus does not know the whole of that period yet.",
            Query(_against(runs.increase(), runs.previous()), "Runs"),
            Query(_against(cost.increase(), cost.previous()), "Cost"),
            Query(_against(tokens.increase(type="=~input|output"), tokens.previous(type="=~input|output")), "Tokens"),
            Query(
                _against(
                    over(duration.increase(suffix="_sum"), duration.increase(suffix="_count")),
                    over(duration.previous(suffix="_sum"), duration.previous(suffix="_count")),
                ),
                "Duration of a run",
            ),
            unit="percentunit",
            empty="nothing to compare with",
            width=24,
            decimals=0,
        ),
    ]
    flow = [
        lines(
            "Runs per second",
            "How many runs end in a second, by outcome. cancelled and abandoned are the caller's doing, error and "
            "timed_out are not.",
            Query(runs.rate("outcome"), "{{outcome}}"),
            unit="cps",
            stacked=True,
            links=[to_review(outcome="${__field.labels.outcome}")],
        ),
        lines(
            "Share of runs that did not complete",
            "Of all runs that ended: those that failed or ran out of time, and those that the caller gave up. From 5 % "
            "of failures on, look at the tools and at the providers.",
            Query(share(runs.rate(outcome=FAULTS), runs.rate()), FAILED),
            Query(share(runs.rate(outcome="=~cancelled|abandoned"), runs.rate()), "given up by the caller"),
            unit="percentunit",
            steps=above(0.05, 0.2),
            empty="No runs in this time range",
            links=[to_board("Their traces and lines in the log", RUN_BOARD)],
        ),
        lines(
            "Runs in progress",
            "Runs that have begun and not ended, by agent. A line that never falls is a run that hangs.",
            *ranked(progress.now("agent"), runs, "agent"),
            unit="short",
            stacked=True,
        ),
        lines(
            "Duration of runs",
            "From the start of a run to its end, tools and sub-agents included. p95: 95 of 100 runs took less. A dot "
            "is one run; click it for its trace or its log.",
            *(Query(duration.quantile(q), f"p{q * 100:g}", exemplars=q == 0.99) for q in (0.5, 0.95, 0.99)),
            unit="s",
            steps=above(60, 300),
            empty="No runs in this time range",
        ),
        lines(
            "Time to first token",
            "From sending a streaming request to the first piece that says something: what a person waits for. A dot "
            "is one request; click it for its trace or its log.",
            *(Query(first.quantile(q), f"p{q * 100:g}", exemplars=q == 0.99) for q in (0.5, 0.95, 0.99)),
            unit="s",
            steps=above(5, 15),
            empty="Nothing was streamed in this time range",
        ),
        lines(
            "Cost per hour",
            "US dollars per hour at the pace of each moment, by model.",
            *ranked(f"{cost.rate('model')} * 3600", cost, "model"),
            unit="currencyUSD",
            stacked=True,
            empty="No request with a known price in this time range",
        ),
        lines(
            "Tokens per second",
            "By type. input includes what was read from and written to the provider's cache, output includes "
            "reasoning: these are parts, not to be added.",
            Query(tokens.rate("type"), "{{type}}"),
            unit="short",
            width=24,
        ),
    ]
    ranking = [
        listing(
            "Agents by cost",
            "Where the money goes. The cost of a sub-agent is its own, not its caller's.",
            Column("Cost", top(15, cost.total("agent")), "currencyUSD", missing="not priced"),
            count("Runs", runs.total("agent")),
            Column(
                "Not completed",
                share(runs.total("agent", outcome="!=completed"), runs.total("agent")),
                "percentunit",
                above(0.05, 0.2),
            ),
            count("Tokens", tokens.total("agent", type="=~input|output")),
            keys={"agent": "Agent"},
            links={"agent": agent_links},
        ),
        listing(
            "Models by cost",
            "What each model cost and how often it failed. A model without a cost has no known price.",
            Column("Cost", top(15, cost.total("model")), "currencyUSD", missing="not priced"),
            count("Requests", requests.total("model")),
            Column(
                "Failed",
                share(requests.total("model", outcome="=error"), requests.total("model")),
                "percentunit",
                above(0.02, 0.1),
            ),
            count("Unpriced", none_of(unpriced.total("model"), of=requests.total("model")), above(1, 100)),
            keys={"model": "Model"},
            links={"model": model_links},
        ),
    ]
    return make_board(
        "sidestream-fleet",
        "All agents at a glance: how much is going on, how it ends, how long it takes and what it costs.",
        {"Now": now, "What has changed": changed, "Over time": flow, "Who and what": ranking, TITLE: health_row()},
    )
