"""Board "Sidecar health": are all events delivered, which exporters lag or drop events, and why?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from dashboards.boards.health_row import DROPPED, FAILING, WAITING, oldest_delivery, recording_errors, scrape_age
from dashboards.frame import make_board
from dashboards.panels import COUNT, NONE_IS_GOOD, TARGETS, Column, Query, above, count, lines, listing, number
from dashboards.queries import none_of, or_zero, share, since

events = TARGETS["sidestream_events_total"]
queue = TARGETS["sidestream_queue_events"]
failures = TARGETS["sidestream_exporter_failures_total"]
failing = TARGETS["sidestream_exporter_failing"]
busy = TARGETS["sidestream_exporter_busy_seconds"]
success = TARGETS["sidestream_exporter_last_success_timestamp_seconds"]
overflow = TARGETS["sidestream_label_overflow_total"]
broken = TARGETS["sidestream_recording_errors_total"]
build = TARGETS["sidestream_build_info"]

NO_EVENTS = "No exporter has been given an event"


def board() -> dashboard.Dashboard:
    now = [
        number(
            "Events seen",
            "Events handed to all exporters together in this time range: done with, or waiting.",
            Query(f"{events.total()} + {WAITING}"),
            unit=COUNT,
            empty="no events yet",
            decimals=0,
        ),
        number(
            "Events dropped",
            "Events that some exporter could not deliver in this time range. The reasons are below.",
            Query(DROPPED),
            unit=COUNT,
            steps=NONE_IS_GOOD,
            decimals=0,
        ),
        number(
            "Exporters failing",
            "Exporters whose last call failed and that are paused before the next attempt.",
            Query(FAILING),
            unit="short",
            steps=NONE_IS_GOOD,
        ),
        oldest_delivery(),
        recording_errors(),
        scrape_age(),
    ]
    books = [
        lines(
            "Exported per second",
            "Events that each exporter has delivered.",
            Query(events.rate("exporter", state="=exported"), "{{exporter}}"),
            unit="eps",
            empty=NO_EVENTS,
        ),
        lines(
            "Dropped per second, by reason",
            "overflow: events came faster than the sink takes them. error: the exporter raised. rejected: the sink "
            "refused them. shutdown, closed: the program ended first. Chunks are dropped before anything else.",
            Query(
                f"{events.rate('exporter', 'reason', state='=dropped')} or on (exporter) {events.rate('exporter')} * 0",
                "{{exporter}} {{reason}}",
            ),
            unit="eps",
            steps=((None, "green"), (0.001, "red")),
            empty=NO_EVENTS,
            failures=True,
        ),
        lines(
            "Share of events dropped",
            "Of the events an exporter was done with. What is missing from its sink.",
            Query(share(events.rate("exporter", state="=dropped"), events.rate("exporter")), "{{exporter}}"),
            unit="percentunit",
            steps=above(0.001, 0.01),
            empty="No exporter was busy in this time range",
            failures=True,
        ),
        lines(
            "Queue",
            "Events that wait for each exporter. At 20,000 (buffer_events) chunks are dropped.",
            Query(queue.now("exporter"), "{{exporter}}"),
            unit="short",
            steps=above(5_000, 15_000),
            empty=NO_EVENTS,
        ),
        lines(
            "Paused after failures",
            "1 while an exporter is failing and waits before it tries again (the circuit is open), else 0.",
            Query(failing.now("exporter", aggregate="max"), "{{exporter}}"),
            unit="short",
            steps=NONE_IS_GOOD,
            empty=NO_EVENTS,
        ),
        lines(
            "Failures per second",
            "Calls of an exporter that raised.",
            Query(failures.rate("exporter"), "{{exporter}}"),
            unit="cps",
            steps=((None, "green"), (0.01, "red")),
            empty=NO_EVENTS,
            failures=True,
        ),
        lines(
            "Time in one call",
            "How long the call that an exporter is in has taken so far. One that hangs climbs here without end.",
            Query(busy.now("exporter", aggregate="max"), "{{exporter}}"),
            unit="s",
            steps=above(10, 60),
            empty=NO_EVENTS,
        ),
        lines(
            "Time since the last delivery",
            "Of each exporter, in the process that is worst off. It climbs while agents rest, too.",
            Query(since(success.now("exporter", aggregate="min")), "{{exporter}}"),
            unit="s",
            steps=above(3_600, 86_400),
            empty="Nothing has been delivered yet",
        ),
        lines(
            "Label overflow per second",
            "Observations counted under 'other', since a label has more values than its cap. The names of agents, "
            "models or tools come from outside, then.",
            Query(or_zero(overflow.rate("label"), label="none"), "{{label}}"),
            unit="short",
            steps=((None, "green"), (0.001, "red")),
            empty="No label has overflowed",
        ),
    ]
    listings = [
        listing(
            "Exporters",
            "The books of each exporter in this time range: what it has seen is exported, dropped, or waits.",
            count("Exported", events.total("exporter", state="=exported")),
            count(
                "Dropped",
                none_of(events.total("exporter", state="=dropped"), of=events.total("exporter")),
                NONE_IS_GOOD,
            ),
            count("Waiting", queue.now("exporter"), above(5_000, 15_000)),
            count("Failures", failures.total("exporter"), above(1, 100)),
            keys={"exporter": "Exporter"},
        ),
        listing(
            "Processes",
            "Who is being scraped, and which version of Sidestream it runs. Several versions are an update under way.",
            Column("Age of the last scrape", since(f"timestamp({build.select()})"), "s", above(60, 180)),
            keys={"job": "Job", "instance": "Instance", "version": "Version"},
        ),
        lines(
            "Recording errors per second",
            "Failures inside Sidestream while it recorded a run.",
            Query(broken.rate("job"), "{{job}}"),
            unit="short",
            steps=((None, "green"), (0.001, "red")),
            empty="None",
            width=24,
            failures=True,
        ),
    ]
    return make_board(
        "sidestream-health",
        "The sidecar's own books: what it saw, delivered and lost, to whom and why.",
        {"Now": now, "Exporters over time": books, "In detail": listings},
    )
