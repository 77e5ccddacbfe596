"""Board "Tools and agents": which are slow, which fail, and how many requests does a run take?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from dashboards.boards.health_row import TITLE, health_row
from dashboards.frame import make_board, to_board, to_review
from dashboards.panels import BOARD, WIDTH_OF_ERRORS, Column, Query, above, bars, count, lines, listing, ranked
from dashboards.queries import none_of, share, top

calls = BOARD["sidestream_tool_calls_total"]
executed = BOARD["gen_ai_execute_tool_duration_seconds"]
retries = BOARD["sidestream_retries_total"]
runs = BOARD["sidestream_runs_total"]
rounds = BOARD["sidestream_run_requests"]
duration = BOARD["gen_ai_invoke_agent_duration_seconds"]
scores = BOARD["sidestream_scores_total"]
values = BOARD["sidestream_score_value"]

NOT_OK = "=~failed|retry|invalid|unknown"
"""Tool outcomes that lead to another request. deferred, denied, skipped and cancelled are decisions, not faults."""
NO_CALLS = "No tool was called in this time range"
NO_RUNS = "No run ended in this time range"
NO_SCORES = "No run was scored in this time range"


def board() -> dashboard.Dashboard:
    all_calls = calls.total("agent", "tool")
    all_runs = runs.total("agent", "parent_agent")
    tools = [
        lines(
            "Tool calls per second",
            "By tool, whatever their outcome.",
            *ranked(calls.rate("tool"), calls, "tool"),
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
            empty=NO_CALLS,
        ),
        lines(
            "Calls gone wrong, by tool",
            "Share of a tool's calls that failed, were retried, invalid or unknown. Each one costs a round with the "
            "model.",
            *ranked(share(calls.rate("tool", outcome=NOT_OK), calls.rate("tool")), calls, "tool", adds_up=False),
            unit="percentunit",
            steps=above(0.05, 0.25),
            empty=NO_CALLS,
            failures=True,
        ),
        lines(
            "Duration of tool calls, p95",
            "95 of 100 calls of the tool took less. A dot is one call; click it for its trace or its log.",
            *ranked(executed.quantile(0.95, "gen_ai_tool_name"), executed, "gen_ai_tool_name", adds_up=False),
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
            count("Calls", top(50, all_calls)),
            count("Failed", none_of(calls.total("agent", "tool", outcome="=failed"), of=all_calls), above(1, 100)),
            count(
                "Sent back",
                none_of(calls.total("agent", "tool", outcome="=~retry|invalid|unknown"), of=all_calls),
                above(1, 100),
            ),
            Column(
                "Gone wrong",
                share(calls.total("agent", "tool", outcome=NOT_OK), all_calls),
                "percentunit",
                above(0.05, 0.25),
            ),
            keys={"tool": "Tool", "agent": "Agent"},
            links={"agent": [to_review("Its runs in the log", agent="${__value.raw}")]},
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
            # histogram_quantile interpolates from 0 within the first bucket (1), but a run has at least one request.
            Query(f"clamp_min({rounds.quantile(0.5)}, 1)", "p50"),
            Query(f"clamp_min({rounds.quantile(0.95)}, 1)", "p95", exemplars=True),
            unit="short",
            steps=above(16, 32),
            empty=NO_RUNS,
        ),
        lines(
            "Requests per run, by agent",
            "Mean number of requests in a run.",
            *ranked(rounds.mean("agent", window="$__rate_interval"), rounds, "agent", adds_up=False),
            unit="short",
            steps=above(16, 32),
            empty=NO_RUNS,
        ),
    ]
    agents = [
        lines(
            "Runs by agent",
            "Runs that end per second, by agent. Sub-agents count too.",
            *ranked(runs.rate("agent"), runs, "agent"),
            unit="cps",
            stacked=True,
            empty=NO_RUNS,
        ),
        lines(
            "Sub-agents",
            "Runs that a tool of another agent started, per second. Who called whom is in the table below.",
            *ranked(runs.rate("agent", parent_agent="!="), runs, "agent"),
            unit="cps",
            stacked=True,
            empty="No agent has called another",
        ),
        lines(
            "Duration of runs by agent, p95",
            "95 of 100 runs of the agent took less, its tools and sub-agents included.",
            *ranked(duration.quantile(0.95, "gen_ai_agent_name"), duration, "gen_ai_agent_name", adds_up=False),
            unit="s",
            steps=above(60, 300),
            empty=NO_RUNS,
        ),
        listing(
            "Agents",
            "Each agent over the time range, and who called it: empty for runs of its own.",
            count("Runs", top(50, all_runs)),
            count(
                "Failed",
                none_of(runs.total("agent", "parent_agent", outcome="=~error|timed_out"), of=all_runs),
                above(1, 100),
            ),
            count(
                "Given up", none_of(runs.total("agent", "parent_agent", outcome="=~cancelled|abandoned"), of=all_runs)
            ),
            Column(
                "Completed",
                share(runs.total("agent", "parent_agent", outcome="=completed"), all_runs),
                "percentunit",
            ),
            keys={"agent": "Agent", "parent_agent": "Called by"},
            links={
                "agent": [
                    to_board("Cost of this agent", "sidestream-cost", agent="${__value.raw}"),
                    to_review("Its runs in the log", agent="${__value.raw}"),
                ]
            },
            width=24,
        ),
        lines(
            "Runs without a result, by type of error",
            "Runs per second that did not end well, by the type of the exception, or the outcome where there was none.",
            *ranked(duration.rate("error_type", suffix="_count", error_type="!="), duration, "error_type"),
            unit="cps",
            stacked=True,
            empty="Every run has given its result",
            width=12,
            failures=True,
        ),
        listing(
            "Errors of runs",
            "What failed in which agent in this time range.",
            count("Runs", top(20, duration.total("error_type", "gen_ai_agent_name", suffix="_count", error_type="!="))),
            keys={"error_type": "Type of error", "gen_ai_agent_name": "Agent"},
            widths=WIDTH_OF_ERRORS,
        ),
        lines(
            "Mean of scores",
            "What people and programs think of runs, by name of the score: mean of the values, true as 1.",
            *ranked(values.mean("score", window="$__rate_interval"), values, "score", adds_up=False),
            unit="short",
            empty=NO_SCORES,
            width=12,
        ),
        listing(
            "Scores",
            "How often each score was given in this time range, and with which label.",
            count("Scores", top(20, scores.total("score", "judgement", "agent"))),
            keys={"score": "Score", "judgement": "Label", "agent": "Agent"},
        ),
    ]
    return make_board(
        "sidestream-tools",
        "Tools, retries and agents: what is slow, what fails, who calls whom.",
        {"Tools": tools, "Rounds and retries": again, "Agents": agents, TITLE: health_row()},
    )
