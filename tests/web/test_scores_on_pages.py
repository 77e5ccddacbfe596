"""Scores on the pages: display, filters, and the form that a single user on loopback may submit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from starlette.testclient import TestClient

from sidestream import log
from sidestream.errors import ConfigurationError
from sidestream.log import load_run
from sidestream.recording.content import ContentPolicy, apply_policy
from sidestream.web.app import make_app
from sidestream.web.standalone import standalone_page
from tests.support.log_builder import run_events, scored, write
from tests.support.loopback import served
from tests.support.web_client import client_of

ORIGIN = "http://127.0.0.1:8765"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Log of two runs of a conversation: one with two scores of a name and a verdict, one with a bare score."""
    folder = tmp_path / "runs"
    folder.mkdir()
    events = [
        *run_events("run-one", conversation_id="chat"),
        *run_events("run-two", conversation_id="chat", minutes=1),
        scored("run-one", "helpful", 0.25, minutes=5, comment="no <b>date</b>"),
        scored("run-one", "helpful", 0.75, minutes=6),
        scored("run-one", "verdict", label="pass & go", minutes=6.5),
        scored("run-two", "helpful", True, minutes=7),
    ]
    write(folder / "a.jsonl", events)
    return folder


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    """Client of pages with the score form."""
    pages = client_of(folder, scores=True)
    yield pages
    pages.app.state.scoring.close()  # type: ignore[attr-defined]


def form(client: TestClient, run_id: str = "run-two", **fields: str) -> dict[str, str]:
    """Fields of the form on a run's page, as submitted by its first button."""
    html = client.get(f"/runs/{run_id}").text
    token = re.search(r'name="token" value="(\w+)"', html)
    assert token is not None
    return {"token": token[1], "name": "helpful", "comment": "", "value": "up", **fields}


def send(client: TestClient, data: dict[str, str], run_id: str = "run-two", **headers: str) -> int:
    sent = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin", **headers}
    return client.post(f"/runs/{run_id}/scores", data=data, headers=sent).status_code


class TestShown:
    def test_in_the_list_each_leads_to_runs_with_the_same(self, client: TestClient) -> None:
        html = client.get("/").text
        for test in ("helpful%3D0.75", "helpful%3Dtrue", "verdict%3Dpass+%26+go"):
            assert f'href="?score={test}"' in html
        assert "helpful%3D0.25" not in html
        only = client.get("/?score=verdict%3Dpass+%26+go").text
        assert ('id="run-run-one"' in only, 'id="run-run-two"' in only) == (True, False)
        below = client.get("/?score=helpful<0.8").text
        assert ('id="run-run-one"' in below, 'id="run-run-two"' in below) == (True, False)

    def test_a_test_of_scores_that_cannot_be_meant_is_explained(self, client: TestClient) -> None:
        assert "write NAME" in client.get("/?score=<3").text

    def test_on_the_page_of_a_run_are_all_of_them(self, client: TestClient) -> None:
        html = client.get("/runs/run-one").text
        found = re.findall(r'<li id="score-\d+"(.*?)>(.*?)</li>', html, re.DOTALL)
        assert [bool(re.search("earlier", each)) for each, _ in found] == [True, False, False]
        assert [re.findall(r"<strong>(.*?)</strong>", text) for _, text in found] == [["0.25"], ["0.75"], []]
        assert "no &lt;b&gt;date&lt;/b&gt;" in found[0][1]
        assert "pass &amp; go" in found[2][1]

    def test_a_comment_that_a_policy_left_out_is_not_made_up(self, tmp_path: Path) -> None:
        event = apply_policy(
            scored("run-one", "helpful", True, comment="secret"), ContentPolicy.parse("metadata"), None
        )
        write(tmp_path / "a.jsonl", [*run_events("run-one"), event])
        html = client_of(tmp_path).get("/runs/run-one").text
        assert "str of 6; the content itself is not in the log" in html

    def test_with_the_turns_of_a_conversation(self, client: TestClient) -> None:
        html = client.get("/conversations/chat").text
        assert html.count('class="tag score"') == 3
        assert 'href="/?score=helpful%3D0.75&amp;runs=all"' in html

    def test_search_is_narrowed_by_them(self, client: TestClient) -> None:
        html = client.get("/search?q=prompt&score=verdict").text
        assert "/runs/run-one/events" in html
        assert "/runs/run-two/events" not in html

    def test_in_a_file_without_a_form(self, folder: Path) -> None:
        html = standalone_page(load_run(folder, "run-one"))
        assert "no &lt;b&gt;date" in html
        assert "<form" not in html.split("<main")[1].split("</main>")[0]


class TestGiven:
    def test_a_click_writes_what_note_writes(self, client: TestClient, folder: Path) -> None:
        before = (folder / "a.jsonl").read_bytes()
        data = form(client, comment=" fine,\r\nand short ", value="down")
        assert send(client, data) == 303
        (run,) = log.runs(folder, log.Filter.parse(scores=["helpful=false"]))
        assert run.run_id == "run-two"
        assert load_run(folder, "run-two").scores[-1].data.comment == "fine,\nand short"
        assert (folder / "a.jsonl").read_bytes() == before
        assert "fine," in client.get("/runs/run-two").text

    def test_all_clicks_of_a_server_are_in_one_file(self, client: TestClient, folder: Path) -> None:
        for name in ("helpful", "polite", "right"):
            assert send(client, form(client, name=name)) == 303
        assert len(list(folder.glob("*.jsonl"))) == 2
        assert len(log.runs(folder)[1].scores) == 3

    @pytest.mark.parametrize(
        ("changed", "status"),
        [
            ({"token": "0" * 64}, 403),
            ({"token": ""}, 403),
            ({"value": "maybe"}, 400),
            ({"name": "a<b"}, 400),
            ({"name": ""}, 400),
            ({"comment": "x" * 70_000}, 413),
        ],
    )
    def test_a_form_that_is_wrong_writes_nothing(
        self, client: TestClient, folder: Path, changed: dict[str, str], status: int
    ) -> None:
        assert send(client, form(client) | changed) == status
        assert [file.name for file in folder.glob("*.jsonl")] == ["a.jsonl"]

    def test_the_token_of_another_run_is_none(self, client: TestClient) -> None:
        assert send(client, form(client, "run-one")) == 403

    def test_no_run_no_score(self, client: TestClient) -> None:
        assert send(client, form(client), "run-three") == 404

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
            {"Origin": "http://evil.example"},
            {"Origin": "http://127.0.0.1:9999", "Sec-Fetch-Site": "same-site"},
            {"Origin": "null"},
            {
                "Origin": ORIGIN,
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "document",
            },
            {"Origin": ORIGIN, "Sec-Fetch-Site": "none"},
            {"Content-Type": "text/plain"},
            {"Content-Type": "multipart/form-data; boundary=x"},
        ],
    )
    def test_no_other_site_scores(self, client: TestClient, folder: Path, headers: dict[str, str]) -> None:
        """A foreign origin is rejected even with the token."""
        assert send(client, form(client), **headers) == 403
        assert [file.name for file in folder.glob("*.jsonl")] == ["a.jsonl"]

    def test_nothing_that_does_not_say_where_it_comes_from(self, client: TestClient) -> None:
        assert client.post("/runs/run-two/scores", data=form(client)).status_code == 403

    def test_a_foreign_name_of_this_machine_is_refused(self, client: TestClient) -> None:
        evil = {"Host": "evil.example", "Origin": "http://evil.example"}
        assert send(client, form(client), **evil) == 421

    def test_what_cannot_be_written_is_told(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*given: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("sidestream.log.score_writer.make_exporter", full)
        answer = client.post("/runs/run-two/scores", data=form(client), headers={"Origin": ORIGIN})
        assert answer.status_code == 500
        assert "No space left on device" in answer.text


class TestOff:
    def test_where_nobody_turned_it_on(self, folder: Path) -> None:
        pages = client_of(folder)
        assert "<textarea" not in pages.get("/runs/run-two").text
        assert send(pages, {}) == 405

    def test_where_other_machines_come_in(self, folder: Path) -> None:
        with pytest.raises(ConfigurationError, match="loopback"):
            make_app([str(folder)], any_host=True, token="a-token-of-good-length", scores=True)

    def test_where_the_log_cannot_be_written(
        self, client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
        assert "<textarea" not in client.get("/runs/run-two").text


@pytest.mark.parametrize("scripts", [True, False])
def test_by_keys_in_a_browser(browser: Browser, folder: Path, scripts: bool) -> None:
    """The form works with and without JavaScript, under the content security policy."""
    app = make_app([str(folder)], scores=True)
    context = browser.new_context(java_script_enabled=scripts)
    context.set_default_timeout(40_000)
    with served(app) as address:
        page = context.new_page()
        page.goto(f"{address}/runs/run-two")
        if scripts:
            page.keyboard.press("s")
        else:
            page.get_by_role("button", name="Yes").focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.type("just so: tj")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#scores")).to_contain_text("just so: tj", timeout=40_000)
        page.goto("about:blank")
        context.close()
    app.state.scoring.close()
    assert log.runs(folder)[1].score_values == {"helpful": True}
