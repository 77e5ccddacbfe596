"""Board "Cost and tokens": where does the money go, is the budget sufficient, what does the provider's cache save?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from dashboards.boards.health_row import TITLE, health_row
from dashboards.frame import make_board, to_board, to_review
from dashboards.panels import (
    BOARD,
    COUNT,
    NONE_IS_GOOD,
    Column,
    Query,
    above,
    bars,
    below,
    count,
    lines,
    listing,
    number,
    ranked,
)
from dashboards.queries import none_of, or_zero, over, share, top

cost = BOARD["sidestream_cost_usd_total"]
saved = BOARD["sidestream_cache_saved_usd_total"]
written = BOARD["sidestream_cache_write_usd_total"]
unpriced = BOARD["sidestream_unpriced_requests_total"]
uncounted = BOARD["sidestream_uncounted_requests_total"]
tokens = BOARD["sidestream_tokens_total"]
runs = BOARD["sidestream_runs_total"]
requests = BOARD["sidestream_requests_total"]
usage = BOARD["gen_ai_client_token_usage"]
tag_cost = BOARD["sidestream_tag_cost_usd_total"]
tag_runs = BOARD["sidestream_tag_runs_total"]
tag_tokens = BOARD["sidestream_tag_tokens_total"]
tag_unpriced = BOARD["sidestream_tag_unpriced_requests_total"]

USD = "currencyUSD"
HOURS = "($__range_s / 3600)"
MONTH_HOURS = 30 * 24
FAILED_BY_TAG = tag_runs.total("tag", "value", outcome="=~error|timed_out")
NOT_PRICED = "No request with a known price in this time range"


def board() -> dashboard.Dashboard:
    month = f"{cost.total()} / {HOURS} * {MONTH_HOURS}"
    budget = [
        number(
            "Spent",
            "US dollars in this time range, as far as prices are known. It is the sum of what the log says.",
            Query(cost.total()),
            unit=USD,
            empty="nothing priced",
            links=[to_review()],
        ),
        number(
            "Per hour",
            "US dollars per hour, averaged over this time range.",
            Query(f"{cost.total()} / {HOURS}"),
            unit=USD,
            empty="nothing priced",
        ),
        number(
            "Projected for 30 days",
            "What 30 days cost if they go on as this time range did. Choose a day or a week for a fair picture.",
            Query(month),
            unit=USD,
            empty="nothing priced",
        ),
        number(
            "Of the budget",
            "The projection as a share of the budget per 30 days that is set above. Beyond 100 % it will not do.",
            Query(f"{month} / $budget"),
            unit="percentunit",
            steps=above(0.8, 1),
            empty="nothing priced",
            decimals=0,
        ),
        number(
            "Saved by the cache",
            "US dollars by which requests were cheaper than without the provider's prompt cache: what reading saved, "
            "less what writing cost beyond plain input.",
            Query(f"({or_zero(saved.total())}) - ({or_zero(written.total())})"),
            unit=USD,
        ),
        number(
            "Unpriced requests",
            "Requests that used tokens of a model without a known price: their cost is missing from every panel here. "
            "Give it with Sidecar(prices=…).",
            Query(or_zero(unpriced.total())),
            unit=COUNT,
            steps=NONE_IS_GOOD,
            decimals=0,
        ),
    ]
    spend = [
        lines(
            f"Spend per hour, by {label}",
            f"US dollars per hour at the pace of each moment, by {label}.",
            *ranked(f"{cost.rate(label)} * 3600", cost, label),
            unit=USD,
            stacked=True,
            empty=NOT_PRICED,
        )
        for label in ("agent", "model", "provider")
    ]
    pace = [
        lines(
            "Pace against the budget",
            "How fast the budget is being spent: 1 is just on budget, 2 spends it in half the time. The short window "
            "shows a runaway agent, the whole range whether it matters.",
            Query(f"{cost.rate()} * {MONTH_HOURS * 3600} / $budget", "at the moment"),
            Query(f"{cost.rate(window='$__range')} * {MONTH_HOURS * 3600} / $budget", "over the time range"),
            unit="short",
            steps=above(1, 2),
            empty=NOT_PRICED,
            width=12,
        ),
        bars(
            "Cost of a run, by agent",
            "Mean cost of a run that ended in this time range, sub-agents not included.",
            Query(top(10, over(cost.total("agent"), runs.total("agent"))), "{{agent}}"),
            unit=USD,
            steps=above(0.5, 5),
            empty=NOT_PRICED,
            width=12,
        ),
    ]
    who = listing(
        "Spend by agent, provider and model",
        "Everything that was spent in this time range.",
        Column("Cost", top(50, cost.total("agent", "provider", "model")), USD, missing="not priced"),
        count("Requests", requests.total("agent", "provider", "model")),
        count("Tokens", tokens.total("agent", "provider", "model", type="=~input|output")),
        count(
            "Unpriced requests",
            none_of(unpriced.total("agent", "provider", "model"), of=requests.total("agent", "provider", "model")),
            above(1, 100),
        ),
        keys={"agent": "Agent", "provider": "Provider", "model": "Model"},
        links={
            "agent": [
                to_board("Tools and runs of this agent", "sidestream-tools", agent="${__value.raw}"),
                to_review("Its runs in the log", agent="${__value.raw}"),
            ],
            "model": [to_board("Latency of this model", "sidestream-streaming", model="${__value.raw}")],
        },
        width=24,
    )
    tagged = [
        listing(
            "Spend by tag",
            "Everything that was spent in this time range, by the values of the tags that label_tags names (tenant, "
            "team, user). A run without the tag is the row without a value; what is beyond the cap is `other`.",
            Column("Cost", top(100, tag_cost.total("tag", "value")), USD, missing="not priced"),
            count("Runs", tag_runs.total("tag", "value")),
            count("Failed", none_of(FAILED_BY_TAG, of=tag_runs.total("tag", "value")), NONE_IS_GOOD),
            count("Tokens", tag_tokens.total("tag", "value")),
            count(
                "Unpriced",
                none_of(tag_unpriced.total("tag", "value"), of=tag_runs.total("tag", "value")),
                above(1, 100),
            ),
            keys={"tag": "Tag", "value": "Value"},
            links={"value": [to_review("Its runs in the log", tag="${__data.fields.Tag}=${__value.raw}")]},
        ),
        lines(
            "Cost per hour, by value of a tag",
            "US dollars per hour by tenant, team or user: the ten that cost most in this time range, and the rest.",
            *ranked(
                f"{tag_cost.rate('value')} * 3600",
                tag_cost,
                "value",
            ),
            unit=USD,
            empty="No run has a tag that label_tags names",
            width=12,
        ),
    ]
    cached = [
        lines(
            "Cache hits, by model",
            "Share of the input tokens that the provider read from its cache, which costs a fraction. Prompts that "
            "begin alike and come in short order raise it.",
            *ranked(
                share(tokens.rate("model", type="=cache_read"), tokens.rate("model", type="=input")),
                tokens,
                "model",
                adds_up=False,
            ),
            unit="percentunit",
            empty="No tokens in this time range",
        ),
        lines(
            "Saved by the cache per hour",
            "US dollars per hour by which requests were cheaper than without the cache, by model. Writing to a cache "
            "costs extra: a line below zero is a cache that is written and not read.",
            *ranked(f"({saved.rate('model')} - {written.rate('model')}) * 3600", tokens, "model"),
            unit=USD,
            empty="Nothing was read from a cache",
        ),
        number(
            "Cache hits",
            "Share of the input tokens of this time range that were read from the provider's cache.",
            Query(share(tokens.total(type="=cache_read"), tokens.total(type="=input"))),
            unit="percentunit",
            steps=below(0.1, 0.3),
            empty="no tokens",
            width=8,
            height=8,
            decimals=1,
        ),
    ]
    used = [
        lines(
            "Tokens per second",
            "By type. input includes the cache, output the reasoning: these are parts, not to be added.",
            Query(tokens.rate("type"), "{{type}}"),
            unit="short",
            empty="No tokens in this time range",
        ),
        lines(
            "Tokens of a request, p95",
            "95 of 100 requests used fewer: input is what is sent, and grows with the conversation.",
            Query(usage.quantile(0.95, "gen_ai_token_type"), "{{gen_ai_token_type}}", exemplars=True),
            unit="short",
            steps=above(100_000, 500_000),
            empty="No tokens in this time range",
        ),
        lines(
            "Requests that make sums too low",
            "Requests per second whose cost or tokens nobody knows in full, by model. unpriced: the model has no known "
            "price. uncounted: the provider did not say what was used, or the stream was cut off before it did.",
            *ranked(unpriced.rate("model"), unpriced, "model", legend="{{model}} unpriced"),
            *ranked(uncounted.rate("model"), uncounted, "model", legend="{{model}} uncounted"),
            unit="reqps",
            empty="Every request is counted and has a price",
        ),
    ]
    return make_board(
        "sidestream-cost",
        "What agents and models cost, what is left of the budget, and what the cache saves.",
        {
            "Budget": budget,
            "Spend": [*spend, *pace, who],
            "By tag": tagged,
            "Cache": cached,
            "Tokens": used,
            TITLE: health_row(),
        },
        variables=[
            dashboard.TextBoxVariable("budget")
            .label("Budget per 30 days, USD")
            .description("In US dollars")
            .default_value("1000")
        ],
    )
