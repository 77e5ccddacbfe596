"""Pictures of the boards without Grafana: panels drawn from the results of a real Prometheus over real runs.

    python -m tests.support.draw_boards        # two minutes; writes docs/pictures/boards/

The pictures show the contents and layout of a board; Grafana's own rendering is finer.
"""

from __future__ import annotations

import asyncio
import html
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

import pydantic_ai  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from dashboards.frame import RUN_BOARD  # noqa: E402
from dashboards.traffic import make_traffic  # noqa: E402
from sidestream import InMemoryExporter, Sidecar  # noqa: E402
from sidestream_exporters import PrometheusExporter  # noqa: E402
from tests.support.board_files import Json, boards, filled  # noqa: E402
from tests.support.live_prometheus import VARIABLES  # noqa: E402
from tests.support.prometheus_server import Prometheus, prometheus, wait_for  # noqa: E402

SECONDS = 120
RANGE = 50
UNIT, GAP = 30, 8
"""Height of a grid row, and distance between panels, in pixels."""
WIDTH = 1400
COLORS = ["#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#705DA0", "#37872D", "#FADE2A"]
NAMED = {
    "green": "#73BF69",
    "red": "#F2495C",
    "dark-red": "#C4162A",
    "orange": "#FF9830",
    "dark-orange": "#FA6400",
    "blue": "#5794F2",
    "purple": "#B877D9",
    "light-purple": "#CA95E5",
    "dark-green": "#37872D",
    "light-red": "#FF7383",
    "semi-dark-red": "#E02F44",
    "light-blue": "#8AB8FF",
    "dark-yellow": "#E0B400",
    "light-yellow": "#FFEE52",
    "light-orange": "#FFB357",
    "text": "#ccccdc",
}
STYLE = """
body { margin: 0; background: #111217; color: #ccccdc; font: 12px system-ui, sans-serif }
.panel, .row, .top { position: absolute; box-sizing: border-box }
.top { left: 8px; top: 14px; font-size: 17px }
.row { font-size: 14px; padding-top: 6px }
.panel { background: #181b1f; border: 1px solid #26282f; border-radius: 3px; padding: 6px 10px; overflow: hidden }
.title { font-size: 12.5px; font-weight: 600; margin-bottom: 6px }
.stat { display: flex; gap: 24px; justify-content: space-around; align-items: center; height: 70%; text-align: center }
.stat b { display: block; font-size: 27px; font-weight: 500 }
.empty { color: #8e8e9a; text-align: center; padding-top: 9% }
.bar { display: flex; align-items: center; gap: 8px }
.bar i { height: 14px; opacity: .75 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
td, th { text-align: right; padding: 4px 8px; border-bottom: 1px solid #26282f }
td.key, th.key { text-align: left }
th { color: #8ab8ff; font-weight: 500 }
.legend { line-height: 1.45; max-height: 34px; overflow: hidden }
.legend i { display: inline-block; width: 14px; height: 3px; margin: 0 4px 3px 8px }
svg text { fill: #9a9aa8; font-size: 10.5px }
"""


def main() -> None:
    pydantic_ai.BANNER_ENABLED = False
    exporter = PrometheusExporter(0, label_tags="tenant")
    with Sidecar(exporter, InMemoryExporter(), stall_seconds=0.06) as sidecar:
        address = wait_for(lambda: exporter.url, "the address").removeprefix("http://").split("/")[0]
        with prometheus(targets=[address], scrape_interval="1s") as server:

            async def play() -> None:
                traffic = asyncio.create_task(make_traffic(sidecar, speed=4))
                await asyncio.sleep(SECONDS)
                pages = {uid: page(board, server) for uid, board in boards().items() if uid != RUN_BOARD}
                traffic.cancel()
                await asyncio.gather(traffic, return_exceptions=True)
                await asyncio.to_thread(take_pictures, pages)

            asyncio.run(play())


def take_pictures(pages: dict[str, tuple[str, int]]) -> None:
    folder = ROOT / "docs/pictures/boards"
    folder.mkdir(exist_ok=True)
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        for uid, (text, height) in pages.items():
            tab = browser.new_page(viewport={"width": WIDTH, "height": height})
            tab.set_content(text)
            tab.screenshot(path=folder / f"{uid}.png")
            tab.close()
            make_small(folder / f"{uid}.png")
        browser.close()


def make_small(path: Path) -> None:
    """Reduce the picture to 64 colours. Unchanged without Pillow."""
    try:
        from PIL import Image  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        print(f"{path}: pip install pillow, to have it small")
        return
    Image.open(path).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


# --- pages and panels ------------------------------------------------------------------------------------------------


def page(board: Json, server: Prometheus) -> tuple[str, int]:
    now, parts, bottom = time.time(), [], 0
    column = (WIDTH - GAP) / 24
    for panel in board["panels"]:
        at = panel["gridPos"]
        x, y = GAP + at["x"] * column, 56 + at["y"] * (UNIT + GAP)
        width, height = at["w"] * column - GAP, at["h"] * (UNIT + GAP) - GAP
        bottom = max(bottom, int(y + height + GAP))
        place = f"left:{x:.0f}px;top:{y:.0f}px;width:{width:.0f}px;height:{height:.0f}px"
        title = html.escape(panel["title"])
        if panel["type"] == "row":
            parts.append(f'<div class="row" style="{place}">▾ {title}</div>')
            continue
        inside = DRAW[panel["type"]](panel, answers(panel, server, now), width - 20, height - 40, now)
        parts.append(f'<div class="panel" style="{place}"><div class="title">{title}</div>{inside}</div>')
    top = f'<div class="top">{html.escape(board["title"])}</div>'
    return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{top}{''.join(parts)}", bottom


def answers(panel: Json, server: Prometheus, now: float) -> list[list[Json]]:
    chosen = {**VARIABLES, "__range": f"{RANGE}s", "__range_s": str(RANGE), "__rate_interval": "8s"}
    found = []
    for target in panel["targets"]:
        expr = filled(target["expr"], chosen)
        instant = target.get("instant")
        found.append(server.query(expr, now) if instant else server.query_range(expr, now - RANGE * 2, now, 1))
        for series in found[-1]:
            legend = target.get("legendFormat", "__auto")
            for label, value in series["metric"].items():
                legend = legend.replace(f"{{{{{label}}}}}", value)
            series["legend"] = " ".join(legend.replace("__auto", "").split("{{")[0].split())
    return found


def draw_stat(panel: Json, found: list[list[Json]], width: float, height: float, now: float) -> str:
    values = [(series["legend"], float(series["value"][1])) for answer in found for series in answer]
    values = [(name, value) for name, value in values if value == value]
    if not values:
        return empty(panel)
    cells = [
        f'<div>{html.escape(name)}<b style="color:{color(panel, value)}">'
        f"{shown(value, unit(panel), whole(panel))}</b></div>"
        for name, value in values
    ]
    return f'<div class="stat">{"".join(cells)}</div>'


def draw_lines(panel: Json, found: list[list[Json]], width: float, height: float, now: float) -> str:
    series = [each for answer in found for each in answer if any(v == v for v in of(each))]
    if not series:
        return empty(panel)
    stacked = "stacking" in panel["fieldConfig"]["defaults"]["custom"]
    height -= 36
    base: dict[float, float] = {}
    curves = []
    for each in series:
        points = []
        for at, text in each["values"]:
            value = float(text)
            if value != value:
                continue
            low = base.get(at, 0.0) if stacked else 0.0
            base[at] = low + value
            points.append((at, low, low + value))
        curves.append((each["legend"], points))
    high = max(top for _, points in curves for _, _, top in points) * 1.08 or 1.0
    step = 10 ** math.floor(math.log10(high / 2))
    step = next(step * factor for factor in (1, 2, 5, 10) if high / (step * factor) <= 4.5)
    ticks = [step * number for number in range(int(high / step) + 1)]
    left, begin = 52, now - RANGE * 2

    def x(at: float) -> float:
        return left + (at - begin) / (RANGE * 2) * (width - left)

    def y(value: float) -> float:
        return height - 14 - value / high * (height - 22)

    drawn = [
        f'<line x1="{left}" x2="{width:.0f}" y1="{y(t):.1f}" y2="{y(t):.1f}" stroke="#2c2f36"/>'
        f'<text x="{left - 6}" y="{y(t) + 3:.1f}" text-anchor="end">{shown(t, unit(panel))}</text>'
        for t in ticks
    ]
    for place in range(5):
        at = begin + RANGE * 2 * place / 5
        clock = time.strftime("%H:%M:%S", time.gmtime(at))
        drawn.append(f'<text x="{x(at) + 2:.1f}" y="{height - 1:.1f}">{clock}</text>')
    fixed = fixed_colors(panel)
    inks = [fixed.get(name, COLORS[number % len(COLORS)]) for number, (name, _) in enumerate(curves)]
    for ink, (_, points) in zip(inks, curves, strict=True):
        line = " ".join(f"{x(at):.1f},{y(top):.1f}" for at, _, top in points)
        if stacked:
            floor = " ".join(f"{x(at):.1f},{y(low):.1f}" for at, low, _ in reversed(points))
            drawn.append(f'<polygon points="{line} {floor}" fill="{ink}" opacity=".25"/>')
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{ink}" stroke-width="1.3"/>')
    for threshold in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]:
        if threshold["value"] < high:
            ink, level = NAMED.get(threshold["color"], threshold["color"]), f"{y(threshold['value']):.1f}"
            ends = f'x1="{left}" x2="{width:.0f}" y1="{level}" y2="{level}"'
            drawn.append(f'<line {ends} stroke="{ink}" stroke-dasharray="6 5"/>')
    legend = "".join(
        f'<i style="background:{ink}"></i>{html.escape(name)}' for ink, (name, _) in zip(inks, curves, strict=True)
    )
    svg = f'<svg width="{width:.0f}" height="{height:.0f}">{"".join(drawn)}</svg>'
    return f'{svg}<div class="legend">{legend}</div>'


def draw_heat(panel: Json, found: list[list[Json]], width: float, height: float, now: float) -> str:
    rows = sorted(found[0], key=lambda each: float(each["metric"]["le"].replace("+Inf", "inf")))
    cells: dict[tuple[int, float], float] = {}
    below: dict[float, float] = {}
    for number, row in enumerate(rows):
        for at, text in row["values"]:
            cells[number, at] = max(0.0, float(text) - below.get(at, 0.0))
            below[at] = float(text)
    most = max(cells.values(), default=0)
    if not most:
        return empty(panel)
    left, begin, tall = 52, now - RANGE * 2, (height - 6) / len(rows)
    wide = (width - left) / (RANGE * 2)
    drawn = [
        f'<rect x="{left + (at - begin) * wide:.1f}" y="{height - 6 - (number + 1) * tall:.1f}" fill="#5794F2" '
        f'width="{wide + 0.4:.1f}" height="{tall - 0.5:.1f}" opacity="{0.08 + 0.92 * math.sqrt(value / most):.2f}"/>'
        for (number, at), value in cells.items()
        if value
    ]
    for number, row in enumerate(rows):
        if number % 2 == 0:
            text = row["metric"]["le"]
            label = text if text == "+Inf" else shown(float(text), "s")
            drawn.append(
                f'<text x="{left - 6}" y="{height - 6 - number * tall - 2:.1f}" text-anchor="end">{label}</text>'
            )
    return f'<svg width="{width:.0f}" height="{height:.0f}">{"".join(drawn)}</svg>'


def draw_bars(panel: Json, found: list[list[Json]], width: float, height: float, now: float) -> str:
    values = sorted(((float(each["value"][1]), each["legend"]) for each in found[0]), reverse=True)
    if not values:
        return empty(panel)
    most = values[0][0] or 1.0
    return "".join(
        f'<div style="margin:5px 0 1px">{html.escape(name)}</div><div class="bar">'
        f'<i style="width:{(width - 90) * value / most:.0f}px;background:{color(panel, value)}"></i>'
        f"{shown(value, unit(panel))}</div>"
        for value, name in values[:7]
    )


def draw_table(panel: Json, found: list[list[Json]], width: float, height: float, now: float) -> str:
    [organize] = [each for each in panel["transformations"] if each["id"] == "organize"]
    titles = organize["options"]["renameByName"]
    keys = [name for name in titles if not name.startswith("Value")]
    units = {
        override["matcher"]["options"]: value["value"]
        for override in panel["fieldConfig"]["overrides"]
        for value in override["properties"]
        if value["id"] == "unit"
    }
    decimals = {
        override["matcher"]["options"]: value["value"]
        for override in panel["fieldConfig"]["overrides"]
        for value in override["properties"]
        if value["id"] == "decimals"
    }
    columns = [title for name, title in titles.items() if name.startswith("Value")]
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    for title, answer in zip(columns, found, strict=True):
        for each in answer:
            key = tuple(each["metric"].get(name, "") for name in keys)
            rows.setdefault(key, {})[title] = float(each["value"][1])
    if not rows:
        return empty(panel)
    ordered = sorted(rows.items(), key=lambda row: -row[1].get(columns[0], -1))
    head = "".join(f'<th class="key">{titles[name]}</th>' for name in keys) + "".join(f"<th>{t}</th>" for t in columns)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="key">{html.escape(part)}</td>' for part in key)
        + "".join(f"<td>{shown(values[t], units[t], decimals.get(t)) if t in values else ''}</td>" for t in columns)
        + "</tr>"
        for key, values in ordered
    )
    return f"<table><tr>{head}</tr>{body}</table>"


DRAW: dict[str, Any] = {
    "stat": draw_stat,
    "timeseries": draw_lines,
    "heatmap": draw_heat,
    "bargauge": draw_bars,
    "table": draw_table,
}


# --- values ----------------------------------------------------------------------------------------------------------


def of(series: Json) -> Sequence[float]:
    return [float(text) for _, text in series["values"]]


def unit(panel: Json) -> str:
    return str(panel["fieldConfig"]["defaults"]["unit"])


def whole(panel: Json) -> int | None:
    """Number of decimals for the unit `short`, otherwise None. (For shares, `decimals` refers to percent.)"""
    return panel["fieldConfig"]["defaults"].get("decimals") if unit(panel) == "short" else None


def color(panel: Json, value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    name = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
    return NAMED.get(name, name)


def fixed_colors(panel: Json) -> dict[str, str]:
    """Fixed colours of series, by legend."""
    return {
        override["matcher"]["options"]: NAMED.get(value["value"]["fixedColor"], value["value"]["fixedColor"])
        for override in panel["fieldConfig"]["overrides"]
        for value in override["properties"]
        if value["id"] == "color"
    }


def empty(panel: Json) -> str:
    return f'<div class="empty">{html.escape(panel["fieldConfig"]["defaults"]["noValue"])}</div>'


def shown(value: float, unit: str, decimals: int | None = None) -> str:
    if decimals == 0:
        return f"{value:,.0f}"
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "currencyUSD":
        return f"${value:.3g}" if abs(value) < 1000 else f"${value / 1000:.3g}K"
    if unit == "s" and 0 < abs(value) < 1:
        return f"{value * 1000:.3g} ms"
    suffix = {"s": " s", "reqps": " req/s", "cps": " /s", "eps": " evt/s"}.get(unit, "")
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g} K{suffix}"
    return f"{value:.4g}{suffix}" if abs(value) >= 1000 else f"{value:.3g}{suffix}"


if __name__ == "__main__":
    main()
