"""`install()`, `uninstall()` and `sidestream run` with the SDKs of providers, in separate programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import sidestream
from sidestream import ConfigurationError, InMemoryExporter
from tests.support.programs import environment, events, run, write
from tests.support.programs import sidestream as under
from tests.support.provider_server import Exchange, replay
from tests.support.sdk_answers import streamed
from tests.support.sdk_observed import EVENTS

PROGRAM = """
    import sys
    {first}
    import openai

    client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
    asked = dict(model="gpt-5-mini", messages=[dict(role="user", content="?")])
    chunks = client.chat.completions.create(**asked, stream=True)
    print("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))
    {last}
"""


def told(
    tmp_path: Path, *options: str, first: str = "", last: str = "", bare: bool = False, **env: str
) -> list[str | None]:
    """Model of each run in the log of the program."""
    write(tmp_path / "app.py", PROGRAM.format(first=first, last=last))
    body = streamed("chat")
    command = [sys.executable] if bare else under("--exporter", "jsonl:logs/", *options)
    with replay([Exchange("POST", "http://x/", None, 200, EVENTS, body)] * 2) as server:
        done = run([*command, "app.py", server.url], tmp_path, env=environment(**env))
    assert done.stdout.startswith("I will look.\n")
    return [event["data"]["model"] for event in events(tmp_path / "logs") if event["event_type"] == "agent_start"]


def test_a_program_under_sidestream_run(tmp_path: Path) -> None:
    """The program uses neither Sidestream nor pydantic-ai."""
    last = "print(sorted({'pydantic_ai', 'anthropic', 'litellm'} & sys.modules.keys()))"
    assert told(tmp_path, last=last) == ["gpt-5-mini"]


def test_the_sdks_are_chosen(tmp_path: Path) -> None:
    assert told(tmp_path / "a", "--sdk", "anthropic,groq") == []
    assert told(tmp_path / "b", "--sdk", "none", last="assert 'sidestream' not in sys.modules") == []
    assert told(tmp_path / "c", SIDESTREAM_SDK="openai") == ["gpt-5-mini"]


@pytest.mark.parametrize("order", ["before", "after"])
def test_installed_by_the_program_itself(tmp_path: Path, order: str) -> None:
    """Before or after the import of the SDK."""
    install = "import sidestream; sidestream.install('jsonl:logs/')"
    first = install if order == "before" else f"import openai; {install}"
    assert told(tmp_path, first=first, bare=True) == ["gpt-5-mini"]


def test_what_is_not_imported_is_left_alone(tmp_path: Path) -> None:
    """Neither `install()` nor `uninstall()` imports an SDK."""
    program = """
    import sys, sidestream
    sidestream.install("memory")
    sidestream.uninstall()
    import json
    sdks = ("openai", "anthropic", "groq", "google.genai", "mistralai", "litellm", "agents", "langchain_core")
    print([name for name in sdks if name in sys.modules], [type(each).__name__ for each in sys.meta_path])
    """
    write(tmp_path / "app.py", program)
    assert "[] [" in (out := run([sys.executable, "app.py"], tmp_path).stdout)
    assert "ImportHook" not in out


def test_uninstall_puts_everything_back(tmp_path: Path) -> None:
    import anthropic
    import groq
    import openai
    from google import genai
    from mistralai.client import chat as mistral

    def functions() -> list[object]:
        owners = [genai.models.Models, genai.models.AsyncModels, mistral.Chat]
        for each in (openai, anthropic, groq):
            base = each._base_client
            owners += [base.SyncAPIClient, base.AsyncAPIClient, base.Stream, base.AsyncStream]
        return [dict(vars(owner)) for owner in owners]

    before = functions()
    sidestream.install(InMemoryExporter())
    assert functions() != before
    sidestream.uninstall()
    assert functions() == before


def test_where_others_wrapped_after_us_theirs_stays_and_ours_passes_on() -> None:
    from openai import _base_client

    original = _base_client.SyncAPIClient.request
    memory = InMemoryExporter()
    sidecar = sidestream.install(memory)
    ours = _base_client.SyncAPIClient.request

    def theirs(self: object, *args: object, **kwargs: object) -> object:
        return ours(self, *args, **kwargs)  # type: ignore[call-overload]

    _base_client.SyncAPIClient.request = theirs  # type: ignore[method-assign, assignment]
    try:
        sidestream.uninstall()
        assert _base_client.SyncAPIClient.request is theirs
        import openai

        with replay([Exchange("POST", "http://x/", None, 200, EVENTS, streamed("chat"))]) as server:
            client = openai.OpenAI(base_url=server.url, api_key="none")
            assert len(list(client.chat.completions.create(model="m", messages=[], stream=True))) == 6
        assert (memory.events, sidecar.active) == ([], False)
    finally:
        _base_client.SyncAPIClient.request = original  # type: ignore[method-assign]


def test_a_name_that_there_is_not(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An error in a program; from the environment, a logged warning."""
    with pytest.raises(ConfigurationError, match=r"'opnai': unknown SDK; available are: .*openai, .*, and none"):
        sidestream.install("memory", sdk=["opnai"])
    monkeypatch.setenv("SIDESTREAM_SDK", "openai,opnai")
    sidestream.install("memory")
    sidestream.uninstall()
    assert "opnai" in caplog.text
