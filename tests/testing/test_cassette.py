"""A test asks its model once, and its cassette from then on."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidestream import log
from sidestream.testing.cassette import cassette
from tests.support.provider_model import Says, call

pytest_plugins = ["pytester"]

TEST = """
from pydantic_ai import Agent
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.messages import ModelResponse, TextPart

def answer(messages, info):
    with open({asked!r}, "a") as file:
        file.write("asked\\n")
    return ModelResponse(parts=[TextPart("a refund")])

def test_refund(sidestream_cassette):
    agent = sidestream_cassette.use(Agent(FunctionModel(answer), name="clerk"))
    assert agent.run_sync({prompt!r}).output == {output!r}
    assert agent.run_sync("again").output == "a refund"
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CI", raising=False)
    return tmp_path / "asked"


def run(
    pytester: pytest.Pytester, asked: Path, *options: str, prompt: str = "?", output: str = "a refund"
) -> pytest.RunResult:
    pytester.makepyfile(TEST.format(asked=str(asked), prompt=prompt, output=output))
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)


def test_the_model_is_asked_on_the_first_run_alone(
    pytester: pytest.Pytester, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pytester, asked).assert_outcomes(passed=1)
    assert asked.read_text().count("asked") == 2
    (file,) = pytester.path.rglob("*.jsonl")
    assert file.parent.parent.name == "cassettes"
    assert len(log.runs(file)) == 2
    monkeypatch.setenv("CI", "true")
    run(pytester, asked).assert_outcomes(passed=1)
    assert asked.read_text().count("asked") == 2
    differs = run(pytester, asked, prompt="something else")
    differs.assert_outcomes(failed=1)
    differs.stdout.fnmatch_lines(["*RequestDiffers: request 1 differs*"])
    run(pytester, asked, "--sidestream-record", prompt="something else").assert_outcomes(passed=1)
    assert asked.read_text().count("asked") == 4
    run(pytester, asked, prompt="something else").assert_outcomes(passed=1)


def test_a_test_that_fails_records_nothing(
    pytester: pytest.Pytester, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pytester, asked, output="another").assert_outcomes(failed=1)
    assert list(pytester.path.rglob("*.jsonl")) == []
    monkeypatch.setenv("CI", "true")
    missing = run(pytester, asked)
    missing.assert_outcomes(errors=1)
    missing.stdout.fnmatch_lines(["*run the test once with --sidestream-record*"])


def test_tools_of_a_cassette_need_not_be_touched(tmp_path: Path) -> None:
    from pydantic_ai import Agent

    touched: list[int] = []
    agent = Agent(Says([[call("pay", {"amount": 5})], ["paid"]]), name="clerk")

    @agent.tool_plain
    def pay(amount: int) -> str:
        touched.append(amount)
        return "receipt"

    for _ in range(2):
        with cassette(tmp_path / "a.jsonl") as tape:
            assert tape.use(agent, tools="logged").run_sync("pay").output == "paid"
    assert touched == [5]
