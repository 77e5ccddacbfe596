"""The queries of docs/reading.md run, and all tools give the same results."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.clickhouse_server import clickhouse
from tests.support.log_builder import run_events, write
from tests.support.missing import is_missing
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "reading.md"
QUESTIONS = [
    "cost per agent",
    "slowest runs",
    "failed tools",
    "tokens per model and day",
    "runs without an end",
    "time to first token",
    "last errors",
]


def require(tool: str, there: bool) -> None:
    """Skip if `tool` is missing on a developer's machine; fail in the gate."""
    if not there:
        is_missing(f"{tool} is not installed")


def snippets(language: str, *, for_clickhouse: bool = False) -> dict[str, str]:
    """Code of the page in `language`, by title: of the section on ClickHouse, or of all sections before."""
    before, _, after = PAGE.read_text("utf-8").partition("\n## ClickHouse\n")
    blocks = re.findall(
        rf'^```{language} title="([^"]+)"\n(.*?)^```$', after if for_clickhouse else before, re.MULTILINE | re.DOTALL
    )
    return dict(blocks)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs of two agents and two models on two days, the last without an end."""
    (tmp_path / "runs").mkdir()
    events = [
        *run_events("one"),
        *run_events("two", agent="billing", model="claude", minutes=1),
        *run_events("three", minutes=24 * 60, ended=False, pid=4711, host="box"),
    ]
    write(tmp_path / "runs" / "a.jsonl", events)
    monkeypatch.chdir(tmp_path)
    return tmp_path


EXPECTED: dict[str, list[tuple[Any, ...]]] = {
    "cost per agent": [("billing", 1, 0.03), ("support", 1, 0.03)],
    "slowest runs": [("one", "support", 1.5, "completed"), ("two", "billing", 1.5, "completed")],
    "failed tools": [("look_up", 3, 3)],
    "tokens per model and day": [
        ("2026-11-20", "claude", 300, 100),
        ("2026-11-20", "gpt-4o", 300, 100),
        ("2026-11-21", "gpt-4o", 300, 100),
    ],
    "runs without an end": [("three", "support", 4711, "box")],
}
"""Expected results."""
WITHOUT_END_TOO: dict[str, list[tuple[Any, ...]]] = {
    "cost per agent": [("billing", 1, 0.03), ("support", 2, 0.06)],
    "slowest runs": [
        *EXPECTED["slowest runs"][:1],
        ("three", "support", 1.4, "running"),
        *EXPECTED["slowest runs"][1:],
    ],
}
"""Expected results that include runs without an end."""
FIELDS = {
    "cost per agent": ("agent", "runs", "usd"),
    "slowest runs": ("run_id", "agent", "seconds", "outcome"),
    "failed tools": ("tool", "calls", "failed"),
    "tokens per model and day": ("day", "model", "input", "output"),
    "runs without an end": ("run_id", "agent", "pid", "host"),
}


@pytest.mark.parametrize("language", ["sh", "sql", "python"])
def test_every_question_is_asked_in_every_language(language: str) -> None:
    assert [name for name in snippets(language) if name not in ("view", "frames")] == QUESTIONS


def test_clickhouse_is_asked_the_same() -> None:
    page = PAGE.read_text("utf-8")
    headings = {
        section.splitlines()[0]: re.findall(r"^### (.*)$", section, re.MULTILINE) for section in page.split("\n## ")[1:]
    }
    assert headings["ClickHouse"] == headings["jq"] == headings["DuckDB"] == headings["pandas"]


def test_the_python_example_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    exec(code.replace('since="24h", ', ""), {})  # the runs of this log are older
    out = capsys.readouterr().out
    assert "completed 0.03 0" in out
    assert "instructions be brief" in out


@pytest.mark.parametrize("question", QUESTIONS)
def test_jq(folder: Path, question: str) -> None:
    require("jq", shutil.which("sh") is not None)
    done = subprocess.run(["sh", "-c", snippets("sh")[question]], capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    check(question, rows)


@pytest.mark.parametrize("question", QUESTIONS)
def test_duckdb(folder: Path, question: str) -> None:
    require("duckdb", find_spec("duckdb") is not None)
    import duckdb

    code = snippets("sql")
    with duckdb.connect() as database:
        database.execute(code["view"])
        answer = database.execute(code[question])
        names = [column[0] for column in answer.description]
        rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
    check(question, rows)


def test_clickhouse(folder: Path) -> None:
    code = snippets("sql", for_clickhouse=True)
    events = code.pop("events").strip().replace("runs/", f"{folder}/runs/")
    assert list(code) == QUESTIONS
    with clickhouse() as server:
        client = server.client()
        for question, query in code.items():
            answer = client.query(re.sub(r"\bevents\b", lambda _: events, query))
            rows = [dict(zip(answer.column_names, row, strict=True)) for row in answer.result_rows]
            check(question, [{("where" if name == "place" else name): row[name] for name in row} for row in rows])


@pytest.mark.parametrize("question", QUESTIONS)
def test_pandas(folder: Path, question: str) -> None:
    require("pandas", find_spec("pandas") is not None)
    code = snippets("python")
    names: dict[str, Any] = {}
    exec(code["frames"], names)
    *statements, last = ast.parse(code[question]).body
    exec(compile(ast.Module(statements, []), "reading.md", "exec"), names)
    assert isinstance(last, ast.Expr)
    frame = eval(compile(ast.Expression(last.value), "reading.md", "eval"), names)
    frame = frame.reset_index()
    renamed = {
        "agent_name": "agent",
        "duration_seconds": "seconds",
        "size": "calls",
        "sum": "failed",
        "tool_name": "tool",
    }
    frame = frame.rename(columns=renamed)
    if question == "time to first token":
        frame = frame.pivot(index="model", columns="level_1", values="first").reset_index()
        frame = frame.rename(columns={0.5: "p50", 0.95: "p95"})
    check(question, frame.to_dict("records"), {**EXPECTED, **WITHOUT_END_TOO})


def check(question: str, rows: list[dict[str, Any]], expected: dict[str, list[tuple[Any, ...]]] = EXPECTED) -> None:
    """Compare `rows` with the expected results, apart from the format of times."""
    if question == "time to first token":
        assert sorted(row["model"] for row in rows) == ["claude", "gpt-4o"]
        assert all(0.1 <= row["p50"] <= row["p95"] <= 0.2 for row in rows)
    elif question == "last errors":
        assert [(row["where"], row["error"]) for row in rows] == [("tool", "not found")] * 3
    else:
        found = [tuple(_plain(row[field]) for field in FIELDS[question]) for row in rows]
        assert sorted(found) == expected[question]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 9)
    return value if isinstance(value, str | int) else str(value)
