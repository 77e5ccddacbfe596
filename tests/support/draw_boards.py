"""Pictures of the boards by Grafana's own components (npm: @grafana/ui), over a real Prometheus with real runs.

    python -m tests.support.draw_boards                       # writes docs/pictures/boards/; three minutes
    python -m tests.support.draw_boards --out /tmp/boards --widths 390,1400,2560

Needs npm, Chromium and Prometheus. The npm packages (0.5 GB) are installed once, in ~/.cache/sidestream. Grafana's
heatmap is no part of the packages, and is drawn by `grafana/app.jsx`. The board of one run needs Loki and Tempo, and is
left out.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pydantic_ai
from playwright.sync_api import sync_playwright

from dashboards.frame import RUN_BOARD
from dashboards.traffic import make_traffic
from sidestream import InMemoryExporter, Sidecar
from sidestream_exporters import PrometheusExporter
from tests.support.board_files import GENERATED, boards
from tests.support.draw_pictures import make_small
from tests.support.paths import ROOT
from tests.support.prometheus_server import prometheus, wait_for

SOURCE = Path(__file__).parent / "grafana"
CACHE = Path.home() / ".cache/sidestream/grafana-12.2"
BUILD = [
    "app.jsx",
    "--bundle",
    "--format=esm",
    "--jsx=transform",
    "--log-level=error",
    "--outfile=page/app.js",
    "--alias:react-custom-scrollbars-2=./scrollbars.js",
    "--define:global=window",
    '--define:process.env.NODE_ENV="production"',
    "--loader:.svg=text",
    "--loader:.ttf=dataurl",
    "--loader:.woff2=dataurl",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/pictures/boards", help="folder of the pictures")
    parser.add_argument("--widths", default="1400", help="widths in pixels, separated by commas")
    parser.add_argument("--seconds", type=int, default=120, help="duration of the traffic")
    options = parser.parse_args()
    widths = [int(width) for width in options.widths.split(",")]
    page = built()
    pydantic_ai.BANNER_ENABLED = False
    exporter = PrometheusExporter(0, label_tags="tenant")
    with Sidecar(exporter, InMemoryExporter(), stall_seconds=0.06) as sidecar:
        address = wait_for(lambda: exporter.url, "the address").removeprefix("http://").split("/")[0]
        with prometheus(targets=[address], scrape_interval="1s") as server, served(page, server.url) as url:

            async def play() -> None:
                traffic = asyncio.create_task(make_traffic(sidecar, speed=4))
                await asyncio.sleep(options.seconds)
                now = int(time.time())
                traffic.cancel()
                await asyncio.gather(traffic, return_exceptions=True)
                # Half of the time: the board compares it with the other half.
                await asyncio.to_thread(draw, url, options.out, widths, now - options.seconds // 2, now)

            asyncio.run(play())


def built() -> Path:
    """Folder of the page, which draws one board. Installs the npm packages on the first call."""
    shutil.copytree(SOURCE, CACHE, dirs_exist_ok=True)
    if not (CACHE / "node_modules/@grafana/ui").exists():
        subprocess.run(["npm", "install", "--legacy-peer-deps", "--no-audit", "--no-fund"], cwd=CACHE, check=True)
    subprocess.run([CACHE / "node_modules/esbuild/bin/esbuild", *BUILD], cwd=CACHE, check=True)
    page = CACHE / "page"
    shutil.copy(SOURCE / "index.html", page)
    shutil.copytree(GENERATED, page / "boards", dirs_exist_ok=True)
    return page


class _Handler(SimpleHTTPRequestHandler):
    """Files of the page, and queries, which go to Prometheus."""

    prometheus = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with urllib.request.urlopen(urllib.request.Request(f"{self.prometheus}{self.path}", body)) as answer:
            found = answer.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        self.wfile.write(found)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(page: Path, prometheus_url: str) -> Iterator[str]:
    """URL of the page, with Prometheus behind `/api`."""
    handler = type("Handler", (_Handler,), {"prometheus": prometheus_url})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(page)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def draw(url: str, out: Path, widths: Sequence[int], begin: int, end: int) -> None:
    """Write a picture of each board and width; the width is in the name unless there is only one."""
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu"]
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        for uid in boards():
            for width in widths:
                if uid == RUN_BOARD:
                    continue
                query = {"board": uid, "prom": "", "width": width, "from": begin, "to": end, "interval": "10s"}
                tab = browser.new_page(viewport={"width": width, "height": 1000})
                tab.set_default_timeout(120_000)
                tab.goto(f"{url}/?{urlencode(query)}")
                tab.wait_for_selector("[data-panel]")
                tab.wait_for_function("!document.querySelector('[data-state=waiting]')")
                tab.wait_for_timeout(1_000)
                name = uid if len(widths) == 1 else f"{uid}-{width}"
                tab.screenshot(path=out / f"{name}.png", full_page=True)
                make_small(out / f"{name}.png")
                tab.close()
        browser.close()


if __name__ == "__main__":
    main()
