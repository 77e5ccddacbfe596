"""Pictures of console and pages for README and documentation, drawn in Chromium from one run of the demo.

python -m tests.support.draw_pictures        # half a minute; writes docs/pictures/
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.text import Text

from sidestream import log
from tests.support.paths import ROOT

PICTURES = ROOT / "docs/pictures"
SIDESTREAM = [sys.executable, "-c", "from sidestream.cli import main; main()"]
COLUMNS, LINES = 132, 21
"""Size of the console's picture, which shows the first two runs."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        shown = demo(folder)
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        draw_console(browser, shown)
        with served(folder) as address:
            busiest = max(log.runs(folder), key=lambda run: run.tool_calls)
            for name, path in (("runs", ""), ("run", f"runs/{busiest.run_id}")):
                tab = browser.new_page(viewport={"width": 1200, "height": 640})
                tab.goto(f"{address}{path}")
                save(tab, name)
        browser.close()


def demo(folder: str) -> str:
    """Coloured console output of the demo."""
    env = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "PYDANTIC_AI_NO_BANNER": "1"}
    played = subprocess.run([*SIDESTREAM, "demo", "--out", folder], env=env, capture_output=True, text=True, check=True)
    return played.stderr


def draw_console(browser: Browser, shown: str) -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    lines = [line for line in shown.splitlines() if line.startswith("\x1b")]  # runs only, without the demo's messages
    console.print(Text.from_ansi("\n".join(lines[:LINES])), no_wrap=True, overflow="crop")
    svg = console.export_svg(title="sidestream demo")
    tab = browser.new_page(viewport={"width": 1200, "height": 640})
    tab.set_content(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono"))
    tab.set_content(f"<style>body{{margin:0}}svg{{width:1200px;display:block}}</style>{tab.content()}")
    box = tab.locator("svg").bounding_box()
    assert box is not None
    save(tab, "console", box["height"])


@contextmanager
def served(folder: str) -> Iterator[str]:
    with subprocess.Popen([*SIDESTREAM, "serve", folder, "--port", "0"], stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = re.search(r"http://\S+/", server.stderr.readline())
            assert address is not None
            yield address[0]
        finally:
            server.terminate()


def save(tab: Page, name: str, height: float = 640) -> None:
    path = Path(PICTURES / f"{name}.png")
    tab.screenshot(path=path, clip={"x": 0, "y": 0, "width": 1200, "height": height})
    make_small(path)
    tab.close()


def make_small(path: Path) -> None:
    """Reduce the picture to 256 colours. Unchanged without Pillow."""
    try:
        from PIL import Image  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        print(f"{path}: pip install pillow, to have it small")
        return
    Image.open(path).convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


if __name__ == "__main__":
    main()
