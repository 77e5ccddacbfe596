"""The `sidestream` command."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from sidestream import agent_start_event, encode_line
from sidestream.cli import app as cli
from sidestream.errors import ConfigurationError


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_version() -> None:
    """`--version` prints the name and the installed version."""
    assert run("--version") == f"sidestream {version('sidestream')}\n"


@pytest.mark.parametrize("command", [[], *([command.callback.__name__] for command in cli.app.registered_commands)])  # type: ignore[union-attr]
def test_help(command: list[str]) -> None:
    """`--help` describes each command and shows an example."""
    text = run(*command, "--help")
    assert "Usage: sidestream" in text.replace("root", "sidestream")
    assert ("Example:  sidestream" if command else "sidestream demo") in text


def test_nothing() -> None:
    """Without a command, the help is printed, with an exit code other than 0."""
    assert "Commands:" in run(code=2)


def test_schema() -> None:
    """`schema` prints a JSON Schema that a line of the log satisfies and another object does not."""
    schema = json.loads(run("schema"))
    jsonschema.validate(json.loads(encode_line(agent_start_event("support", "Hello"))), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"event_type": "agent_start"}, schema)


class TestExporters:
    def test_list(self) -> None:
        """`exporters` prints a line for each exporter, with options and defaults in the form of a specification."""
        lines = dict(line.split(maxsplit=1) for line in run("exporters").splitlines())
        assert {"console", "jsonl", "memory"} <= set(lines)
        assert lines["console"].startswith("verbose=false format=pretty")
        assert lines["jsonl"].startswith("path=runs/ chunks=merged")

    def test_lists_that_a_specification_sets(self) -> None:
        """Options that take names separated by commas are listed; options that take objects are not."""
        found = json.loads(run("exporters", "--json"))
        assert found["prometheus"]["options"]["label_tags"] == ""
        assert "processors" not in found["console"]["options"]

    def test_json(self) -> None:
        """`--json` has the class, the target and the options."""
        memory = json.loads(run("exporters", "--json"))["memory"]
        assert memory == {
            "class": "sidestream.pipeline.memory:InMemoryExporter",
            "target": None,
            "options": {"content": "full"},
            "required": [],
        }

    def test_broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An exporter that fails to import is listed with its error, and does not hide the others."""
        from importlib.metadata import EntryPoint

        from sidestream.pipeline import registry

        broken = EntryPoint("broken", "no_such_module:Exporter", registry.ENTRY_POINT_GROUP)
        working = EntryPoint("memory", "sidestream.pipeline.memory:InMemoryExporter", registry.ENTRY_POINT_GROUP)

        def entry_points(**_: Any) -> list[EntryPoint]:
            return [broken, working]

        monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
        monkeypatch.setattr(registry, "entry_points", entry_points)
        assert run("exporters").splitlines() == [
            "broken  does not import: No module named 'no_such_module'",
            "memory  content=full",
        ]


def test_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A `ConfigurationError` is one line on stderr and exit code 2, without a traceback."""

    def fail() -> None:
        raise ConfigurationError("colour: choose red\n  or green")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "sidestream: colour: choose red or green\n"


def test_light_start() -> None:
    """The command line itself loads neither pydantic-ai nor an exporter."""
    heavy = {"pydantic_ai", "openai", "sidestream_exporters", "sidestream.demo"}
    code = f"import sys, sidestream.cli; print(sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
