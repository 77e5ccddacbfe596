"""Which tools and agents are slow, which fail, and how many rounds a run takes."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from dashboards.boards.health_row import TITLE, health_row
from dashboards.frame import make_board, to_board, to_review
from dashboards.panels import BOARD, OUTCOME_COLORS, Column, Query, above, bars, count, lines, listing
from dashboards.queries import share, top

calls = BOARD["sidestream_tool_calls_total"]
executed = BOARD["gen_ai_execute_tool_duration_seconds"]
retries = BOARD["sidestream_retries_total"]
runs = BOARD["sidestream_runs_total"]
rounds = BOARD["sidestream_run_requests"]
duration = BOARD["gen_ai_invoke_agent_duration_seconds"]

NOT_OK = "=~failed|retry|invalid|unknown"
"""Outcomes that cost another round. deferred, denied, skipped and cancelled are decisions, not faults."""
NO_CALLS = "No tool was called in this time range"
NO_RUNS = "No run ended in this time range"


def board() -> dashboard.Dashboard:
    tools = [
        lines(
            "Tool calls per second",
            "By tool, whatever their outcome.",
            Query(calls.rate("tool"), "{{tool}}"),
            unit="cps",
            stacked=True,
            empty=NO_CALLS,
            links=[to_review()],
        ),
        lines(
            "Outcomes of tool calls",
            "failed: it raised. retry: it asked the model to try again. invalid: the arguments did not fit. unknown: "
            "the model made the tool up. The last three never did what was meant.",
            Query(calls.rate("outcome"), "{{outcome}}"),
            unit="cps",
            stacked=True,
            colors=OUTCOME_COLORS,
            empty=NO_CALLS,
        ),
        lines(
            "Calls gone wrong, by tool",
            "Share of a tool's calls that failed, were retried, invalid or unknown. Each one costs a round with the "
            "model.",
            Query(share(calls.rate("tool", outcome=NOT_OK), calls.rate("tool")), "{{tool}}"),
            unit="percentunit",
            steps=above(0.05, 0.25),
            empty=NO_CALLS,
        ),
        lines(
            "Duration of tool calls, p95",
            "95 of 100 calls of the tool took less. A dot is one call; click it for its trace or its log.",
            Query(executed.quantile(0.95, "gen_ai_tool_name"), "{{gen_ai_tool_name}}", exemplars=True),
            unit="s",
            steps=above(5, 30),
            empty=NO_CALLS,
        ),
        bars(
            "Slowest tools",
            "Mean duration of the calls in this time range.",
            Query(top(10, executed.mean("gen_ai_tool_name")), "{{gen_ai_tool_name}}"),
            unit="s",
            steps=above(5, 30),
            empty=NO_CALLS,
        ),
        bars(
            "Most failing tools",
            "Calls that failed, were retried, invalid or unknown in this time range.",
            Query(top(10, calls.total("tool", outcome=NOT_OK)), "{{tool}}"),
            unit="short",
            steps=above(10, 100),
            empty="No call has gone wrong",
            decimals=0,
        ),
        listing(
            "Tools",
            "Each tool of each agent over the time range.",
            count("Calls", calls.total("agent", "tool")),
            count("Failed", calls.total("agent", "tool", outcome="=failed"), above(1, 100)),
            count("Sent back", calls.total("agent", "tool", outcome="=~retry|invalid|unknown"), above(1, 100)),
            Column(
                "Gone wrong",
                share(calls.total("agent", "tool", outcome=NOT_OK), calls.total("agent", "tool")),
                "percentunit",
                above(0.05, 0.25),
            ),
            keys={"tool": "Tool", "agent": "Agent"},
            links={"agent": [to_review("Its runs in the log", agent="${__value.raw}")]},
            empty=NO_CALLS,
            width=24,
        ),
    ]
    again = [
        lines(
            "Model asked again, by cause",
            "validation_error: the answer did not fit the output type or a tool's arguments. model_retry: a tool or "
            "validator asked for it. Each one is a paid request more.",
            Query(retries.rate("cause"), "{{cause}}"),
            unit="cps",
            stacked=True,
            empty="The model was never asked again",
        ),
        lines(
            "Requests per run",
            "How many times the model is asked in a run: p50 and p95. A rising line is an agent that goes in circles.",
            # Within the first bucket, which is 1, a quantile is thought to lie anywhere above 0.
            Query(f"clamp_min({rounds.quantile(0.5)}, 1)", "p50"),
            Query(f"clamp_min({rounds.quantile(0.95)}, 1)", "p95", exemplars=True),
            unit="short",
            steps=above(16, 32),
            empty=NO_RUNS,
        ),
        lines(
            "Requests per run, by agent",
            "Mean number of requests in a run.",
            Query(rounds.mean("agent", window="$__rate_interval"), "{{agent}}"),
            unit="short",
            steps=above(16, 32),
            empty=NO_RUNS,
        ),
    ]
    agents = [
        lines(
            "Runs by agent",
            "Runs that end per second, by agent. Sub-agents count too.",
            Query(runs.rate("agent"), "{{agent}}"),
            unit="cps",
            stacked=True,
            empty=NO_RUNS,
        ),
        lines(
            "Sub-agents",
            "Runs that a tool of another agent started, per second.",
            Query(runs.rate("parent_agent", "agent", parent_agent="!="), "{{parent_agent}} → {{agent}}"),
            unit="cps",
            stacked=True,
            empty="No agent has called another",
        ),
        lines(
            "Duration of runs by agent, p95",
            "95 of 100 runs of the agent took less, its tools and sub-agents included.",
            Query(duration.quantile(0.95, "gen_ai_agent_name"), "{{gen_ai_agent_name}}", exemplars=True),
            unit="s",
            steps=above(60, 300),
            empty=NO_RUNS,
        ),
        listing(
            "Agents",
            "Each agent over the time range, and who called it: empty for runs of its own.",
            count("Runs", runs.total("agent", "parent_agent")),
            count("Failed", runs.total("agent", "parent_agent", outcome="=~error|timed_out"), above(1, 100)),
            count("Given up", runs.total("agent", "parent_agent", outcome="=~cancelled|abandoned")),
            Column(
                "Completed",
                share(runs.total("agent", "parent_agent", outcome="=completed"), runs.total("agent", "parent_agent")),
                "percentunit",
            ),
            keys={"agent": "Agent", "parent_agent": "Called by"},
            links={
                "agent": [
                    to_board("Cost of this agent", "sidestream-cost", agent="${__value.raw}"),
                    to_review("Its runs in the log", agent="${__value.raw}"),
                ]
            },
            empty=NO_RUNS,
            width=24,
        ),
    ]
    return make_board(
        "sidestream-tools",
        "Tools, retries and agents: what is slow, what fails, who calls whom.",
        {"Tools": tools, "Rounds and retries": again, "Agents": agents, TITLE: health_row()},
    )
