"""Access control of the pages, and escaping of everything that a log holds."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from sidestream.errors import ConfigurationError
from sidestream.events import AgentStart, Custom, Error, FinalResult, Retry, ToolEnd, ToolStart
from sidestream.log import load_run
from sidestream.web.app import make_app
from sidestream.web.standalone import standalone_page
from sidestream.web.views import page
from tests.support.run_events import ask, chunk
from tests.support.web_client import client_of
from tests.support.web_log import SHOP, ends, lines, request_end

pytestmark = pytest.mark.scenario_20

TOKEN = "a-token-of-good-length"
EVIL = "</script></style><script>evil()</script><img src=x onerror=evil()>\"'><b>&lt;"


class TestWhoIsLetIn:
    @pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "LOCALHOST", "[::1]:8765", "127.0.0.1"])
    def test_names_of_this_machine(self, pages: TestClient, host: str) -> None:
        assert pages.get("/", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[::1", "localhost.evil.example"]
    )
    def test_no_foreign_name(self, pages: TestClient, host: str) -> None:
        """DNS rebinding: a site whose name resolves to this machine could otherwise read the pages."""
        assert pages.get("/", headers={"Host": host}).status_code == 421

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
    @pytest.mark.parametrize("dest", ["empty", "iframe", "script", "image", "object"])
    def test_no_other_site_that_loads_or_embeds(self, pages: TestClient, site: str, dest: str) -> None:
        mode = "navigate" if dest in ("iframe", "object") else "no-cors"
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
        for path in ("/", f"/runs/{SHOP}", f"/runs/{SHOP}/events.jsonl", "/static/page.js"):
            assert pages.get(path, headers=headers).status_code == 403

    def test_a_link_on_another_site(self, pages: TestClient) -> None:
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert pages.get(f"/runs/{SHOP}", headers=headers).status_code == 200

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://127.0.0.1"])
    def test_no_foreign_origin(self, pages: TestClient, origin: str) -> None:
        assert pages.get("/live", headers={"Origin": origin}).status_code == 403

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
    def test_nothing_but_reading(self, pages: TestClient, method: str) -> None:
        assert pages.request(method, "/").status_code == 405


class TestToken:
    @pytest.fixture
    def guarded(self, log: Path) -> TestClient:
        return client_of(log, token=TOKEN)

    @pytest.mark.parametrize(
        "path", ["/", f"/runs/{SHOP}", f"/runs/{SHOP}/events.jsonl", "/live", "/static/page.js", "/nothing"]
    )
    def test_is_asked_for_everywhere(self, guarded: TestClient, path: str) -> None:
        assert guarded.get(path).status_code == 401

    def test_given_once_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(self, guarded: TestClient) -> None:
        answer = guarded.get(f"/runs/{SHOP}?steps=all&token={TOKEN}")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert f'url=/runs/{SHOP}?steps=all"' in answer.text
        assert TOKEN not in answer.text
        assert guarded.get(f"/runs/{SHOP}").status_code == 200

    @pytest.mark.parametrize("given", ["", "wrong", TOKEN[:-1], TOKEN + "x", "\N{BICYCLE}", "%ff"])
    def test_that_is_wrong_is_refused(self, guarded: TestClient, given: str) -> None:
        answer = guarded.get(f"/?token={given}")
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers

    @pytest.mark.parametrize("cookie", ["sidestream-x=1", "=;;=", 'a="b', "sidestream-000000000000=" + TOKEN])
    def test_odd_cookies_are_refused(self, guarded: TestClient, cookie: str) -> None:
        assert guarded.get("/", headers={"Cookie": cookie}).status_code == 401

    def test_a_link_on_another_site_is_opened_again_from_a_page_of_ours(self, guarded: TestClient) -> None:
        """The reloaded request has the cookie, which browsers omit for links on other sites."""
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        answer = guarded.get(f"/runs/{SHOP}", headers=headers)
        assert answer.status_code == 200
        assert f'content="0; url=/runs/{SHOP}"' in answer.text
        assert "4711" not in answer.text

    def test_the_way_back_leads_to_no_other_site(self, guarded: TestClient) -> None:
        answer = guarded.get(f"http://127.0.0.1:8765//evil.example/%22%3E?token={TOKEN}")
        assert 'content="0; url=/evil.example/%22%3E"' in answer.text

    def test_is_needed_where_other_machines_come_in(self, log: Path) -> None:
        with pytest.raises(ConfigurationError, match="token"):
            make_app([str(log)], any_host=True)
        pages = client_of(log, token=TOKEN, any_host=True)
        assert pages.get("/", headers={"Host": "box.example"}).status_code == 401


class TestHeaders:
    @pytest.mark.parametrize(
        "path", ["/", f"/runs/{SHOP}", "/search?q=x", "/nothing", "/static/page.js", f"/runs/{SHOP}/events.jsonl"]
    )
    def test_let_nothing_foreign_and_nothing_inline_run(self, pages: TestClient, path: str) -> None:
        headers = pages.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"

    def test_let_no_cache_keep_what_people_wrote(self, pages: TestClient) -> None:
        assert pages.get("/").headers["cache-control"] == "no-store"

    def test_are_there_on_refusals_too(self, pages: TestClient) -> None:
        answer = pages.get("/", headers={"Host": "evil.example"})
        assert "default-src 'none'" in answer.headers["content-security-policy"]


class TestFilesOutside:
    @pytest.mark.parametrize(
        "path",
        [
            "/static/../app.py",
            "/static/%2e%2e/app.py",
            "/static/..%2f..%2fpyproject.toml",
            "/static/%2fetc%2fpasswd",
            "/static/style.css%00",
            "/runs/..%2f..%2fetc%2fpasswd",
            "/runs/%2e%2e/events.jsonl",
            "/runs/../../etc/passwd/events.jsonl",
        ],
    )
    def test_are_not_served(self, pages: TestClient, path: str) -> None:
        answer = pages.get(path)
        assert answer.status_code == 404
        assert "root:" not in answer.text

    def test_a_run_elsewhere_is_not_shown(self, pages: TestClient, log: Path) -> None:
        (log.parent / "secret.jsonl").write_bytes(lines("secret-run", [(0.0, AgentStart(root_run_id="x")), ends(1.0)]))
        assert pages.get("/runs/secret-run").status_code == 404


class Tags(HTMLParser):
    """Parser that collects every tag of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def assert_harmless(text: str) -> None:
    for tag, attributes in Tags(text).found:
        assert tag not in ("b", "img", "iframe", "object", "embed", "base"), tag
        assert not [name for name in attributes if name.startswith("on")], attributes
        assert "style" not in attributes, attributes
        if tag == "script":
            own = (attributes.get("src") or "").startswith(("/static/page.js", "/static/timeline.js"))
            assert own or attributes.get("type") == "application/json", attributes
        for name in ("href", "src", "action"):
            assert not (attributes.get(name) or "").strip().lower().startswith(("javascript:", "data:", "//")), (
                attributes
            )


def hostile_log(file: Path, text: str, run_id: str) -> None:
    """Log of a run with `text` in every field that others control."""
    child = AgentStart(root_run_id=run_id, parent_run_id=run_id, parent_tool_call_id=text, prompt=text)
    start = AgentStart(
        root_run_id=run_id, model=text, prompt=text, tags={text: text}, conversation_id=text, trace_id=text, host=text
    )
    told = [
        (0.0, start),
        (0.0, ask(1, instructions=text)),
        (0.1, chunk(text, text)),
        (0.1, chunk(text, part=1, kind="thinking")),
        (0.1, chunk(text, part=2, kind="tool_call", tool_name=text, tool_call_id=text)),
        (0.2, request_end(1, model=text, provider=text, finish_reason=text, error=text, exception_type=text)),
        (0.3, ToolStart(tool_name=text, tool_call_id=text, args={text: [text]})),
        (0.4, ToolEnd(tool_name=text, tool_call_id=text, outcome="failed", error=text, exception_type=text)),
        (0.4, Retry(cause=text, message=text, tool_name=text, tool_call_id=text)),
        (0.4, Error(error=text, exception_type=text, where="tool", tool_name=text, tool_call_id=text)),
        (0.5, Custom(name=text, payload={text: text})),
        (0.6, FinalResult(output_type=text, output=text)),
        ends(0.7, "error", exception_type=text),
    ]
    file.write_bytes(lines(run_id, told, agent=text) + lines(f"child-{run_id}", [(0.0, child), ends(0.1)], agent=text))


def test_what_a_log_holds_is_text_everywhere(tmp_path: Path) -> None:
    """Prompts, names of tools and agents, tags, ids, file names and form input are escaped."""
    folder = tmp_path / "<script>evil()<"
    folder.mkdir()
    run_id = f"run{EVIL.replace('/', '')}"
    hostile_log(folder / "<img src=x onerror=evil()>.jsonl", EVIL, run_id)
    pages = client_of(folder)
    paths = ["/", "/?runs=all", f"/runs/{_quote(run_id)}", f"/runs/{_quote(run_id)}/events", "/search?q=evil()"]
    paths += [f"/compare?run={_quote(run_id)}&run={_quote('child-' + run_id)}", f"/search?q={_quote(EVIL)}"]
    paths += [f"/?agent={_quote(EVIL)}&tag={_quote(EVIL)}&since={_quote(EVIL)}", f"/runs/{_quote(EVIL)}", "/nothing"]
    paths += [f"/runs/{_quote(run_id)}/events?type={_quote(EVIL)}", "/search?q="]
    for path in paths:
        answer = pages.get(path)
        assert answer.status_code in (200, 404), path
        assert_harmless(answer.text)
    shown = pages.get(f"/runs/{_quote(run_id)}").text
    assert shown.count("&lt;script&gt;evil()&lt;/script&gt;") > 20


def test_what_a_log_holds_is_text_in_a_page_that_stands_alone(tmp_path: Path) -> None:
    hostile_log(tmp_path / "log.jsonl", EVIL, "hostile-run")
    text = standalone_page(load_run(str(tmp_path), "hostile-run"))
    assert text.count("<script>") == 1
    assert "<img" not in text
    assert "evil()</script>" not in text


@settings(max_examples=12, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_any_text_at_all_can_be_shown(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    hostile_log(folder / "log.jsonl", text, "any-run")
    pages = client_of(folder)
    for path in ("/", "/runs/any-run", "/runs/any-run/events", "/compare?run=any-run&run=child-any-run"):
        answer = pages.get(path)
        assert answer.status_code == 200
        assert_harmless(answer.text)


def test_text_that_utf_8_cannot_hold_is_shown_escaped() -> None:
    """File names need not be valid UTF-8."""
    answer = page("message.html", title="Not found", message="odd-\udcff.jsonl", q="")
    assert b"odd-\\udcff.jsonl" in answer.body


def test_templates_never_switch_escaping_off() -> None:
    templates = Path(make_app.__code__.co_filename).parent / "templates"
    for template in templates.iterdir():
        assert not re.search(r"\|\s*safe|autoescape|Markup", template.read_text("utf-8")), template.name


def _quote(text: str) -> str:
    return quote(text, safe="")
