"""Board "Streaming latency": how long do users wait, and for what: the provider, or the consumer of the stream?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from dashboards.boards.health_row import TITLE, health_row
from dashboards.frame import make_board, to_board, to_review
from dashboards.panels import BOARD, WIDTH_OF_ERRORS, Column, Query, above, count, heat, lines, listing, ranked
from dashboards.queries import RANGE, RATE, over, share, top

first = BOARD["sidestream_time_to_first_token_seconds"]
chunk = BOARD["gen_ai_client_operation_time_to_first_chunk_seconds"]
gap = BOARD["gen_ai_client_operation_time_per_output_chunk_seconds"]
duration = BOARD["gen_ai_client_operation_duration_seconds"]
usage = BOARD["gen_ai_client_token_usage"]
stalls = BOARD["sidestream_stream_stalls_total"]
requests = BOARD["sidestream_requests_total"]
wait = BOARD["sidestream_provider_wait_seconds_total"]
hold = BOARD["sidestream_consumer_hold_seconds_total"]

MODEL = "gen_ai_request_model"
NOT_STREAMED = "Nothing was streamed in this time range"


def _speed(*by: str, window: str = RATE) -> str:
    """Query for the output tokens per second of request time."""
    return over(
        usage.rate(*by, suffix="_sum", window=window, gen_ai_token_type="=output"),
        duration.rate(*by, suffix="_sum", window=window),
    )


def board() -> dashboard.Dashboard:
    first_token = [
        lines(
            "Time to first token by kind",
            "Until the first piece of text, of thinking, or of a tool call that says something; p95. Text late after "
            "early thinking is a model that reasons, not a slow one.",
            Query(first.quantile(0.95, "kind"), "{{kind}}", exemplars=True),
            unit="s",
            steps=above(5, 15),
            empty=NOT_STREAMED,
            links=[to_review()],
        ),
        lines(
            "Time to first token by model, p50 and p95",
            "Half of the streamed requests, and 95 %, had their first token within this time.",
            *ranked(first.quantile(0.5, "model"), first, "model", legend="{{model}} p50", adds_up=False),
            *ranked(first.quantile(0.95, "model"), first, "model", legend="{{model}} p95", adds_up=False),
            unit="s",
            steps=above(5, 15),
            empty=NOT_STREAMED,
        ),
        lines(
            "Time to first chunk by provider, p95",
            "Until the provider sent anything at all, empty or not. Far below the time to first token, it shows a "
            "provider that answers at once and then thinks.",
            Query(chunk.quantile(0.95, "gen_ai_provider_name"), "{{gen_ai_provider_name}}", exemplars=True),
            unit="s",
            steps=above(5, 15),
            empty=NOT_STREAMED,
        ),
        heat(
            "Time to first token",
            "Each column is a moment, each row a span of seconds; the darker, the more requests. Two bands are two "
            "kinds of requests, which a quantile would hide.",
            first.heat(),
        ),
        heat(
            "Gaps between chunks",
            "Time between two chunks of a stream: how fluently it flows. Dark cells far up are streams that stutter.",
            gap.heat(),
        ),
    ]
    flow = [
        lines(
            "Output tokens per second",
            "Tokens that a request yields per second of its duration, by model. The first-token wait is part of it, so "
            "short answers look slower than long ones.",
            *ranked(_speed(MODEL), duration, MODEL, adds_up=False),
            unit="short",
            empty="No tokens in this time range",
        ),
        lines(
            "Gap between chunks, p95",
            "95 of 100 gaps between two chunks are shorter. Beyond a third of a second a reader sees it.",
            *ranked(gap.quantile(0.95, MODEL), duration, MODEL, adds_up=False),
            unit="s",
            steps=above(0.3, 2),
            empty=NOT_STREAMED,
        ),
        lines(
            "Stalls per request",
            "Waits for the provider within a stream that were longer than the sidecar's stall_seconds (2 unless set), "
            "per request. One in twenty is felt.",
            *ranked(share(stalls.rate("model"), requests.rate("model")), requests, "model", adds_up=False),
            unit="short",
            steps=above(0.05, 0.2),
            empty="No requests in this time range",
        ),
        lines(
            "Who keeps whom waiting",
            "Of the time that streams were open: how much they waited for the provider, and how much for the program "
            "to ask for the next event. A program that holds streams slows its own users down, not the provider.",
            Query(over(wait.rate(), f"({wait.rate()} + {hold.rate()})"), "waiting for the provider"),
            Query(over(hold.rate(), f"({wait.rate()} + {hold.rate()})"), "held by the program"),
            unit="percentunit",
            stacked=True,
            empty=NOT_STREAMED,
            width=12,
        ),
        lines(
            "Streams open, by model",
            "Seconds of open streams per second, which is how many are open on average: waiting for the provider and "
            "held by the program.",
            *ranked(wait.rate("model"), requests, "model", legend="{{model}}, provider"),
            *ranked(hold.rate("model"), requests, "model", legend="{{model}}, program"),
            unit="short",
            stacked=True,
            empty=NOT_STREAMED,
            width=12,
        ),
    ]
    whole = [
        lines(
            "Duration of requests by model, p95",
            "From sending a request to its end, streamed or not.",
            *ranked(duration.quantile(0.95, MODEL), duration, MODEL, adds_up=False),
            unit="s",
            steps=above(30, 120),
            empty="No requests in this time range",
            width=12,
        ),
        lines(
            "Failed requests by provider",
            "Share of requests that the provider, or the way to it, failed. Requests that the caller gave up are not "
            "its fault and not in here.",
            Query(share(requests.rate("provider", outcome="=error"), requests.rate("provider")), "{{provider}}"),
            unit="percentunit",
            steps=above(0.02, 0.1),
            empty="No requests in this time range",
            width=12,
            failures=True,
        ),
        listing(
            "Models",
            "Each model over the whole time range. Means are of all its requests together.",
            count("Requests", duration.total("gen_ai_request_model", suffix="_count")),
            Column("Mean duration", duration.mean("gen_ai_request_model"), "s", above(30, 120)),
            Column("Mean first chunk", chunk.mean("gen_ai_request_model"), "s", above(5, 15)),
            Column("Mean gap", gap.mean("gen_ai_request_model"), "s", above(0.3, 2)),
            Column("Tokens / s", _speed("gen_ai_request_model", window=RANGE), "short"),
            keys={"gen_ai_request_model": "Model"},
            links={"gen_ai_request_model": [to_board("Cost of this model", "sidestream-cost", model="${__value.raw}")]},
            width=16,
        ),
        listing(
            "Stalls",
            "Waits within streams that were longer than stall_seconds, in this time range, by agent.",
            count("Stalls", top(20, stalls.total("agent")), above(10, 100)),
            keys={"agent": "Agent"},
            width=8,
        ),
        lines(
            "Requests that did not end well, by type of error",
            "Requests per second that did not end well, by the type of the exception, or the outcome where there was "
            "none: a rate limit, a time-out and a bug are different things to do.",
            *ranked(duration.rate("error_type", suffix="_count", error_type="!="), duration, "error_type"),
            unit="reqps",
            stacked=True,
            empty="Every request has ended well",
            width=12,
            failures=True,
        ),
        listing(
            "Errors of requests",
            "What failed at which model in this time range.",
            count(
                "Requests",
                top(20, duration.total("error_type", "gen_ai_request_model", suffix="_count", error_type="!=")),
            ),
            keys={"error_type": "Type of error", "gen_ai_request_model": "Model"},
            widths=WIDTH_OF_ERRORS,
        ),
    ]
    return make_board(
        "sidestream-streaming",
        "How long people wait for the first word and between words, and who is to blame.",
        {"The first token": first_token, "The flow": flow, "Whole requests": whole, TITLE: health_row()},
    )
