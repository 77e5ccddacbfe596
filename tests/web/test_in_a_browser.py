"""Pages in a real browser: scripts, live updates, keyboard, small screens and contrast."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from sidestream.events import AgentStart, encode_line
from sidestream.log import load_run
from sidestream.recording.process import hostname
from sidestream.web.app import make_app
from sidestream.web.standalone import standalone_page
from tests.support.log_builder import scored
from tests.support.loopback import served
from tests.support.run_events import ask, chunk
from tests.support.web_log import (
    ANSWER,
    FAILED,
    MARKDOWN,
    PLAIN,
    RICH,
    SHOP,
    ends,
    lines,
    long_run,
    plain_run,
    request_end,
    rich_run,
    write_log,
)
from tests.web.test_web_security import EVIL, hostile_log

expect.set_options(timeout=40_000)

PATHS = ["/", f"/runs/{SHOP}", f"/runs/{FAILED}", f"/runs/{SHOP}/events", f"/compare?run={SHOP}&run={FAILED}"]
PATHS += ["/search?q=order", "/nothing", f"/runs/{RICH}", f"/compare?run={RICH}&run={SHOP}", "/errors"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the pages over a static log."""
    folder = write_log(tmp_path_factory.mktemp("runs"))
    (folder / "more.jsonl").write_bytes(rich_run() + long_run("long-run", 230))
    with served(make_app([str(folder)])) as address:
        yield address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """Page of a fresh profile; the test fails on a script error or a violation of the content security policy.

    Closed before the server at `address`, since a live page reports a lost connection.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
    context.set_default_timeout(40_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    context.close()
    assert not [each for each in wrong if "404" not in each]


def seek(page: Page, share: float) -> None:
    """Move the player to the given share of the run's duration."""
    page.locator("#position").evaluate(
        "(slider, share) => { slider.value = 1000 * share; slider.dispatchEvent(new Event('input')); }",
        share,
    )


class TestNothingOfALogRuns:
    def test_in_served_pages(self, page: Page, tmp_path: Path) -> None:
        hostile_log(tmp_path / "log.jsonl", EVIL, "hostile-run")
        page.add_init_script("window.evil = () => { window.wasEvil = true; }")
        with served(make_app([str(tmp_path)])) as address:
            for path in ("/?runs=all", "/runs/hostile-run", "/runs/hostile-run/events", "/search?q=evil()"):
                page.goto(address + path)
                expect(page.locator("main")).to_contain_text("<script>evil()</script>")
                assert page.evaluate("window.wasEvil") is None
            page.goto("about:blank")

    def test_in_a_page_that_stands_alone(self, page: Page, tmp_path: Path) -> None:
        hostile_log(tmp_path / "log.jsonl", EVIL, "hostile-run")
        file = tmp_path / "run.html"
        file.write_text(standalone_page(load_run(str(tmp_path), "hostile-run")), "utf-8")
        page.add_init_script("window.evil = () => { window.wasEvil = true; }")
        page.goto(file.as_uri())
        expect(page.locator("#turns")).to_contain_text("<script>evil()</script>")
        assert page.evaluate("window.wasEvil") is None


class TestLive:
    def test_a_new_run_appears_in_the_list(self, page: Page, log: Path) -> None:
        with served(make_app([str(log)])) as address:
            page.goto(address)
            expect(page.locator("#live")).to_be_visible()
            expect(page.locator(".runs tbody tr")).to_have_count(3)
            with open(log / "log.jsonl", "ab") as file:
                file.write(plain_run(PLAIN.replace("92f6", "beef"), minutes=30))
            expect(page.locator(".runs tbody tr").first).to_contain_text("beef")
            page.goto("about:blank")

    def test_a_run_is_seen_to_go_on_and_to_end(self, page: Page, tmp_path: Path) -> None:
        start = AgentStart(root_run_id="live-run", prompt="Hello?", pid=os.getpid(), host=hostname())
        told = [(0.0, start), (0.1, ask(1)), (0.2, chunk("First ")), (0.3, chunk("second.")), (0.4, request_end(1))]
        events = lines("live-run", [*told, ends(0.5)], begun=datetime.now(UTC)).splitlines(keepends=True)
        file = tmp_path / "log.jsonl"
        file.write_bytes(b"".join(events[:3]))

        def write(*lines: bytes) -> None:
            with open(file, "ab") as log:
                log.write(b"".join(lines))

        app = make_app([str(tmp_path)], scores=True)
        with served(app) as address:
            page.goto(f"{address}/runs/live-run")
            expect(page.locator("h1")).to_contain_text("running")
            expect(page.locator(".said")).to_have_text("First ")
            page.locator(".row").nth(1).click()
            page.locator(".turn.user").evaluate("element => { element.mine = true; }")
            write(events[3])
            expect(page.locator(".said")).to_have_text("First second.")
            expect(page.locator(".row.here")).to_have_count(1)
            assert page.locator(".turn.user").evaluate("element => element.mine"), "what did not change was made anew"
            page.locator("textarea").fill("half a thought")
            write(encode_line(scored("live-run", "helpful", 0.4)))
            expect(page.locator("#scores")).to_contain_text("helpful 0.4")
            write(*events[4:])
            expect(page.locator("h1")).to_contain_text("completed")
            expect(page.locator("textarea")).to_have_value("half a thought")
            expect(page.locator("#live")).to_be_hidden()
            page.goto("about:blank")


class TestPlaying:
    def test_shows_what_had_come_by_then(self, page: Page, address: str) -> None:
        """The third delta of the second answer arrived after 1.14 s of 1.32 s."""
        page.goto(f"{address}/runs/{SHOP}")
        said = page.locator(".said").last
        expect(said).to_have_text("".join(ANSWER))
        seek(page, 1.15 / 1.32)
        expect(said).to_have_text("".join(ANSWER[:3]))
        expect(page.locator(".turn.result").last).to_be_hidden()
        expect(page.locator(".head-line").first).to_be_attached()
        seek(page, 0.5 / 1.32)
        expect(said).to_be_hidden()
        seek(page, 1)
        expect(said).to_have_text("".join(ANSWER))
        expect(page.locator(".head-line")).to_have_count(0)

    def test_goes_to_the_end_by_itself(self, page: Page, address: str) -> None:
        page.goto(f"{address}/runs/{SHOP}")
        page.locator("#speed").select_option("20")
        seek(page, 0)
        expect(page.locator(".said").last).to_be_hidden()
        page.locator("h2").first.click()
        page.keyboard.press("Space")
        expect(page.locator("#play")).to_have_attribute("aria-label", "Play")
        expect(page.locator("#position")).to_have_value("1000")
        expect(page.locator(".said").last).to_have_text("".join(ANSWER))

    def test_can_be_paused(self, page: Page, address: str) -> None:
        page.goto(f"{address}/runs/{SHOP}")
        twice = "button => [0, 1].map(() => { button.click(); return button.getAttribute('aria-label'); })"
        assert page.locator("#play").evaluate(twice) == ["Pause", "Play"]


class TestKeys:
    def test_lead_through_the_list(self, page: Page, address: str) -> None:
        page.goto(address)
        for key in ("j", "j", "k", "j"):
            page.keyboard.press(key)
        expect(page.locator("tr.here")).to_have_attribute("id", f"run-{PLAIN}")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/runs/{PLAIN}")
        page.keyboard.press("u")
        page.wait_for_url(f"{address}/")

    def test_choose_two_runs_and_compare_them(self, page: Page, address: str) -> None:
        page.goto(address)
        expect(page.locator("#compare-button")).to_be_disabled()
        for key in ("j", "x", "j", "x", "c"):
            page.keyboard.press(key)
        page.wait_for_url(f"**/compare?run={FAILED}&run={PLAIN}")

    def test_lead_to_what_went_wrong_and_zoom(self, page: Page, address: str) -> None:
        page.goto(f"{address}/runs/{FAILED}")
        page.keyboard.press("e")
        expect(page.locator(".turn.error.here")).to_be_visible()
        page.keyboard.press("+")
        window = page.locator(".row .window").first
        expect(window).to_have_attribute("width", "200.0000%")
        page.keyboard.press("ArrowRight")
        expect(window).to_have_attribute("x", "-70.0000%")
        expect(page.locator(".axis")).to_contain_text("150ms")
        page.keyboard.press("0")
        expect(window).to_have_attribute("width", "100.0000%")
        expect(page.locator(".row").first.locator(".tick")).to_have_count(page.locator(".axis text").count())

    def test_search_help_and_theme(self, page: Page, address: str) -> None:
        page.goto(address)
        page.keyboard.press("?")
        expect(page.locator("#help")).to_be_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("t")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.keyboard.press("/")
        page.keyboard.type("bag arrives")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search?q=bag+arrives")
        expect(page.locator("mark").first).to_have_text("bag arrives")


class TestConversation:
    def test_markdown_is_rendered_and_raw_on_demand(self, page: Page, address: str) -> None:
        page.goto(f"{address}/runs/{RICH}")
        answer = page.locator(".turn.request")
        expect(answer.locator("th").first).to_have_text("item")
        expect(answer.locator("pre.said")).to_be_hidden()
        answer.get_by_label("raw").check()
        expect(answer.locator("pre.said")).to_have_text(MARKDOWN)
        expect(answer.locator(".md")).to_be_hidden()

    def test_playing_shows_the_text_as_it_came(self, page: Page, address: str) -> None:
        page.goto(f"{address}/runs/{RICH}")
        seek(page, 0.335 / 0.52)
        expect(page.locator("pre.said")).to_be_visible()
        expect(page.locator(".turn.request .md")).to_be_hidden()
        seek(page, 1)
        expect(page.locator(".turn.request .md")).to_be_visible()

    def test_json_folds_and_is_copied_whole(self, page: Page, address: str) -> None:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"{address}/runs/{RICH}")
        tool = page.locator(".turn.tool")
        expect(tool.get_by_text('"city"').first).to_be_hidden()
        tool.locator("summary", has_text="ways").click()
        tool.locator(".copy-button").last.click()
        expect(tool.locator(".copy-button").last).to_have_text("copied")
        copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
        assert copied["ways"][7]["where"] == {"city": "Köln", "hub": 8}

    def test_tool_calls_fold(self, page: Page, address: str) -> None:
        page.goto(f"{address}/runs/{SHOP}")
        expect(page.locator(".turn.tool .call").first).to_be_visible()
        page.keyboard.press("f")
        expect(page.locator(".turn.tool .call").first).to_be_hidden()
        expect(page.locator("#fold-tools")).to_have_text("Unfold tools")
        page.locator(".turn.tool .turn-head").first.click()
        expect(page.locator(".turn.tool .call").first).to_be_visible()

    def test_a_link_to_a_step_beyond_the_first_ones_shows_all(self, page: Page, address: str) -> None:
        """The link to a failed step beyond the limit does too."""
        page.goto(f"{address}/runs/long-run")
        expect(page.locator("#turns")).to_contain_text("show all")
        page.keyboard.press("e")
        page.wait_for_url("**/runs/long-run?steps=all#at-tool-*")
        expect(page.locator(".turn.here")).to_contain_text("The disk is full")
        step = page.url.partition("#")[2]
        page.goto("about:blank")
        page.goto(f"{address}/runs/long-run#{step}")
        expect(page.locator(".turn.here")).to_contain_text("The disk is full")
        expect(page.locator(f'.step-link[href="#{step}"]')).to_be_visible()

    def test_keys_lead_from_step_to_step_and_from_run_to_run(self, page: Page, address: str) -> None:
        page.goto(f"{address}/runs/{SHOP}")
        for key in ("j", "j", "j"):
            page.keyboard.press(key)
        expect(page.locator(".turn.here")).to_contain_text("look_up")
        expect(page.locator(".row.here")).to_contain_text("look_up")
        page.keyboard.press("]")
        page.wait_for_url(f"**/runs/{PLAIN}")
        page.keyboard.press("[")
        page.wait_for_url(f"**/runs/{SHOP}")


def test_dragging_over_the_timeline_zooms_in(page: Page, address: str) -> None:
    page.goto(f"{address}/runs/{SHOP}")
    track = page.locator(".row .fall-track").nth(2)
    track.scroll_into_view_if_needed()
    box = track.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 8)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 8, steps=4)
    page.mouse.up()
    expect(page.locator(".row .window").first).to_have_attribute("width", re.compile("^(199|200|201)"))
    assert page.url.endswith(f"/runs/{SHOP}")


def test_pointing_at_a_bar_tells_about_it(page: Page, address: str) -> None:
    page.goto(f"{address}/runs/{SHOP}")
    page.locator(".row.request .fall-track").first.hover()
    expect(page.locator("#tip")).to_contain_text("first token after: 100ms")


def test_a_row_leads_to_its_part_of_the_conversation_within_folds(page: Page, address: str) -> None:
    page.goto(f"{address}/runs/{SHOP}")
    expect(page.get_by_text("Within days.")).to_be_hidden()
    page.locator(".row.depth-3.request").click()
    expect(page.get_by_text("Within days.")).to_be_visible()


def test_everything_can_be_read_without_scripts(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/?outcome=completed")
    page.locator("select[name=outcome]").select_option("error")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".runs tbody tr")).to_have_count(1)
    page.locator(".run-name > a:first-child").click()
    expect(page.locator("#turns")).to_contain_text("The model is overloaded")
    expect(page.locator("#player")).to_be_hidden()
    context.close()


def test_a_page_that_stands_alone_asks_for_nothing_and_plays(page: Page, log: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.html"
    file.write_text(standalone_page(load_run(str(log), SHOP)), "utf-8")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    seek(page, 1.15 / 1.32)
    expect(page.locator(".said").last).to_have_text("".join(ANSWER[:3]))
    page.get_by_text("Raw events").click()
    expect(page.locator(".events li")).to_have_count(21)
    assert asked == [file.as_uri()]
    assert page.evaluate("getComputedStyle(document.querySelector('.panel')).borderTopWidth") == "1px"


def test_a_phone_shows_runs_first_and_filters_on_demand(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(address)
    expect(page.locator("#filters")).to_be_hidden()
    page.get_by_text("Filters", exact=True).click()
    expect(page.locator("#filters")).to_be_visible()
    page.goto(f"{address}/?agent=support")
    expect(page.locator("#filters")).to_be_visible()


def test_times_are_in_the_zone_of_the_reader(browser: Browser, address: str) -> None:
    context = browser.new_context(timezone_id="Asia/Tokyo", locale="en-US")
    page = context.new_page()
    page.goto(f"{address}/runs/{SHOP}")
    expect(page.locator("#about time").first).to_have_text(re.compile(r"2026-11-20 18:30:00 GMT\+9"))
    context.close()


# --- accessibility -------------------------------------------------------------------------------------------------


def test_nothing_sticks_out_of_a_phone(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for path in PATHS:
        page.goto(address + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


NAMELESS = """() => {
  const label = (e) => e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent || e.title || "";
  const bad = [];
  for (const e of document.querySelectorAll("a, button, input:not([type=hidden]), select, [role=img], [role=region]"))
    if (e.checkVisibility() && !e.parentElement.closest("[role=img]") && !label(e).trim())
      bad.push(e.outerHTML.slice(0, 120));
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  bad.push(...ids.filter((id, at) => ids.indexOf(id) !== at).map((id) => `twice: ${id}`));
  for (const e of document.querySelectorAll("[aria-labelledby], label[for]")) {
    const id = e.getAttribute("aria-labelledby") ?? e.htmlFor;
    if (!document.getElementById(id)) bad.push(`leads nowhere: ${id}`);
  }
  if (document.querySelectorAll("h1").length !== 1) bad.push("not one h1");
  if (!document.documentElement.lang || !document.title) bad.push("no lang or title");
  if (document.querySelector("[tabindex]:not([tabindex='0']):not([tabindex='-1'])")) bad.push("a tab order of its own");
  return bad;
}"""


def test_everything_has_a_name_for_those_who_do_not_see_it(page: Page, address: str) -> None:
    for path in PATHS:
        page.goto(address + path)
        assert page.evaluate(NAMELESS) == [], path


FAINT = """() => {
  const surface = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const canvas = surface.getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.disabled || element.matches("script, option")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(rgba(element instanceof SVGElement ? style.fill : style.color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${element.className} ${element.textContent.trim().slice(0, 30)}`);
  }
  return faint;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(page: Page, address: str, scheme: Literal["light", "dark"]) -> None:
    """Contrast of at least 4.5 to 1 in both colour schemes (WCAG 2, level AA)."""
    page.emulate_media(color_scheme=scheme)
    for path in PATHS:
        page.goto(address + path)
        assert page.evaluate(FAINT) == [], path


def test_follows_the_scheme_of_the_system(page: Page, address: str) -> None:
    page.goto(address)
    ground = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) != dark
