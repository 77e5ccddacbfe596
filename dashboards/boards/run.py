"""Board "One run and its conversation": what happened in the run and its conversation, from logs and traces?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from dashboards.boards.health_row import TITLE, health_row
from dashboards.frame import CARRIED, RUN_BOARD, make_board, to_board
from dashboards.log_panels import FAULTS, RUNS, Field, log_lines, log_table, of_log, one_trace, span_table

KEPT = (*CARRIED, "logs", "traces", "stream")
"""Variables that links to the board of another run pass on."""

THE_RUN = "run_id = `${run}`"

TO_RUN = to_board("This run", RUN_BOARD, KEPT, run="${__value.raw}", trace="${__data.fields.traceIdHidden}")
TO_LINES = to_board("The lines of this run", RUN_BOARD, KEPT, run="${__value.raw}")
TO_PAGE = dashboard.DashboardLink("Its page in the log").url("${review}/runs/${__value.raw}").target_blank(True)
TO_CONVERSATION = to_board("Its conversation", RUN_BOARD, (*KEPT, "run", "trace"), conversation="${__value.raw}")

RUN = Field("Run", "sidestream.run_id", width=320, links=[TO_RUN, TO_PAGE])
AGENT = Field("Agent", "gen_ai.agent.name", width=120)
OUTCOME = Field("Outcome", "sidestream.outcome", width=100, outcome=True)
CONVERSATION = Field("Conversation", "gen_ai.conversation.id", links=[TO_CONVERSATION])
OF_A_RUN = (
    AGENT,
    OUTCOME,
    Field("Model", "gen_ai.request.model"),
    Field("Requests", "sidestream.requests", "short", 90),
    Field("Tool calls", "sidestream.tool_calls", "short", 90),
    Field("Cost", "sidestream.cost.usd", "currencyUSD", 90),
)
"""Columns for attributes of a run's span."""


def board() -> dashboard.Dashboard:
    run = [
        span_table(
            "The run",
            "Run and trace that are chosen above, from the span of the run. Click the run to choose its trace as well, "
            "the conversation to see its other runs.",
            f'{RUNS} && span.sidestream.run_id = "${{run}}"',
            RUN,
            *OF_A_RUN,
            CONVERSATION,
            height=4,
        ),
        one_trace(
            "Its trace",
            "The run, its requests, its tools and its sub-agents in time: the trace that is chosen above. A span leads "
            "to the run's lines in the log.",
            "${trace}",
            height=10,
        ),
        log_table(
            "Its requests",
            "Requests to models with their tokens, from the lines llm_end of the log. A failed attempt that was made "
            "again has a line of its own.",
            of_log('event_type="llm_end"', THE_RUN),
            Field("Request", "data.request", "short", 80),
            Field("Provider", "data.provider", width=80),
            Field("Model", "data.model"),
            Field("Outcome", "data.outcome", width=90, outcome=True),
            Field("Duration", "data.duration_seconds", "s", 80),
            Field("First chunk", "data.time_to_first_chunk_seconds", "s", 95),
            Field("Input", "data.usage.input_tokens", "short", 60),
            Field("Output", "data.usage.output_tokens", "short", 65),
            Field("Cost", "data.cost_usd", "currencyUSD", 90),
            width=16,
        ),
        log_table(
            "Its tool calls",
            "Calls of tools, from the lines tool_end of the log.",
            of_log('event_type="tool_end"', THE_RUN),
            Field("Tool", "data.tool_name"),
            Field("Outcome", "data.outcome", width=90, outcome=True),
            Field("Duration", "data.duration_seconds", "s", 80),
            width=8,
        ),
        log_lines(
            "Its lines in the log",
            "Every line of the run, in order. Open a line: its run id leads to the trace, to this board and to the "
            "page of the run in the log.",
            of_log("", THE_RUN),
        ),
    ]
    conversation = [
        span_table(
            "Runs of the conversation",
            "Runs of the conversation that is chosen above, the newest first; each leads to its own trace and lines.",
            f'{RUNS} && span.gen_ai.conversation.id = "${{conversation}}"',
            RUN,
            *OF_A_RUN,
        ),
        log_table(
            "What was asked in it",
            "Prompts of the conversation in order, from the lines agent_start of the log, where the log may hold "
            "content.",
            of_log(
                'event_type="agent_start"',
                "json conversation=`data.conversation_id`",
                "conversation = `${conversation}`",
            ),
            Field("Agent", "agent_name", width=120),
            Field("Prompt", "data.prompt"),
            Field("Run", "run_id", width=320, links=[TO_LINES, TO_PAGE]),
        ),
    ]
    failed = [
        span_table(
            "Traces of runs that failed",
            "Runs of the chosen agents that ended in an error or out of time, the newest first, from their spans. "
            "Click a run to see it above.",
            f'{RUNS} && span.gen_ai.agent.name =~ `${{agent:regex}}` && span.sidestream.outcome =~ "{FAULTS}"',
            RUN,
            *OF_A_RUN,
            CONVERSATION,
        ),
        log_lines(
            "Ends of runs that failed, in the log",
            "The last line of the same runs, with the exception. Open a line: its run id leads to the trace, to this "
            "board and to the page of the run in the log.",
            of_log('event_type="agent_end", agent_name=~`${agent:regex}`', f"outcome =~ `{FAULTS}`"),
            newest_first=True,
        ),
    ]
    return make_board(
        RUN_BOARD,
        "One run and its conversation, from its trace (Tempo) and its lines in the log (Loki).",
        {"The run": run, "Its conversation": conversation, "Runs that failed": failed, TITLE: health_row()},
        [
            _source("logs", "Logs", "loki"),
            _source("traces", "Traces", "tempo"),
            dashboard.TextBoxVariable("stream")
            .label("Log stream")
            .description("Labels that select the lines of Sidestream's log in Loki")
            .default_value('job="sidestream"'),
            dashboard.TextBoxVariable("run").label("Run").description("Id of the run"),
            dashboard.TextBoxVariable("trace").label("Trace").description("Id of the run's trace"),
            dashboard.TextBoxVariable("conversation").label("Conversation").description("Id of the conversation"),
        ],
    )


def _source(name: str, label: str, kind: str) -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable(name).label(label).type(kind)
