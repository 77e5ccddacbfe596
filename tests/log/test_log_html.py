"""HTML of runs and statistics in a notebook."""

from __future__ import annotations

from pathlib import Path

from sidestream import log
from tests.support.log_builder import run_events, write


def test_a_run_and_the_sums_are_tables_with_every_text_escaped(tmp_path: Path) -> None:
    """A lower bound is marked, and an unknown value is empty."""
    agent = "<script>alert(1)</script>"
    events = [*run_events("run-one", agent=agent, prompt="<b>bold</b>"), *run_events("run-two", ended=False)]
    write(tmp_path / "a.jsonl", events)
    run = log.load_run(tmp_path, "run-one")
    every = log.runs(tmp_path)
    for html in (
        every._repr_html_(),
        every[:5]._repr_html_(),
        run._repr_html_(),
        run.summary._repr_html_(),
        log.statistics(tmp_path)._repr_html_(),
    ):
        assert "<table>" in html
        assert "<script>" not in html
        assert "<b>" not in html
        assert "&lt;script&gt;" in html
    assert "It left on Monday." in run._repr_html_()
    assert "≥$0.03" in log.runs(tmp_path, log.Filter(outcomes=("lost",)))[0]._repr_html_()


def test_a_long_list_of_runs_shows_the_last_ones(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl",
        [event for number in range(52) for event in run_events(f"run-{number:04}", minutes=number)],
    )
    every = log.runs(tmp_path)
    html = every._repr_html_()
    assert "run-0051" in html
    assert "run-0001" not in html
    assert "The last 50 of 52 runs." in html
    assert "run-0001" in every[:2]._repr_html_()
    assert every == list(every)
