"""Last row of every board, about the sidecar itself: can the numbers above be trusted?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from grafana_foundation_sdk.builders import dashboard

from dashboards.frame import to_board
from dashboards.panels import COUNT, NONE_IS_GOOD, TARGETS, Panel, Query, above, number
from dashboards.queries import or_zero, since

TITLE = "Can these numbers be believed?"
Links: TypeAlias = Sequence[dashboard.DashboardLink]
_MORE = [to_board("Sidecar health", "sidestream-health")]

DROPPED = or_zero(TARGETS["sidestream_events_total"].total(state="=dropped"))
WAITING = TARGETS["sidestream_queue_events"].now()
FAILING = TARGETS["sidestream_exporter_failing"].now()
SINCE_SUCCESS = since(TARGETS["sidestream_exporter_last_success_timestamp_seconds"].now(aggregate="min"))
RECORDING_ERRORS = or_zero(TARGETS["sidestream_recording_errors_total"].total())
SCRAPE_AGE = since(f"min(timestamp({TARGETS['sidestream_build_info'].select()}))")


def oldest_delivery(more: str = "", links: Links = ()) -> Panel:
    """Panel with the longest time since an exporter's last delivery; `more` is appended to the description."""
    return number(
        "Oldest last delivery",
        "Time since the last successful delivery of the exporter that has delivered nothing for the longest." + more,
        Query(SINCE_SUCCESS),
        unit="s",
        steps=above(3_600, 86_400),
        empty="nothing delivered yet",
        links=links,
    )


def recording_errors(links: Links = ()) -> Panel:
    """Panel with the number of Sidestream's own failures."""
    return number(
        "Recording errors",
        "Failures inside Sidestream while it recorded a run. No run noticed, but each one is a bug worth a report.",
        Query(RECORDING_ERRORS),
        unit=COUNT,
        steps=NONE_IS_GOOD,
        decimals=0,
        links=links,
    )


def scrape_age(more: str = "", links: Links = ()) -> Panel:
    """Panel with the age of the board's data; `more` is appended to the description."""
    return number(
        "Age of the last scrape",
        "Time since Prometheus last read the metrics, of the process it has not read for the longest." + more,
        Query(SCRAPE_AGE),
        unit="s",
        steps=above(60, 180),
        empty="nothing is scraped",
        empty_color="red",
        links=links,
    )


def health_row() -> list[Panel]:
    return [
        number(
            "Events dropped",
            "Events that some exporter could not deliver in this time range. With any, its sink is incomplete; "
            "other exporters and the agents are not affected.",
            Query(DROPPED),
            unit=COUNT,
            steps=NONE_IS_GOOD,
            decimals=0,
            links=_MORE,
        ),
        number(
            "Events waiting",
            "Events in the buffers of all exporters now. A few hundred are normal; a number that keeps growing means "
            "that a sink is slower than the agents, and ends in drops at 20,000 per exporter.",
            Query(WAITING),
            unit="short",
            steps=above(5_000, 15_000),
            links=_MORE,
        ),
        number(
            "Exporters failing",
            "Exporters whose last call failed and that are paused before the next attempt.",
            Query(FAILING),
            unit="short",
            steps=NONE_IS_GOOD,
            links=_MORE,
        ),
        oldest_delivery(" While agents rest there is nothing to deliver: compare with the runs.", links=_MORE),
        recording_errors(links=_MORE),
        scrape_age(" Beyond a few scrape intervals everything on this board is old.", links=_MORE),
    ]
