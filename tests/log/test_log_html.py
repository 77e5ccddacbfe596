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
    for html in (run._repr_html_(), run.summary._repr_html_(), log.statistics(tmp_path)._repr_html_()):
        assert "<table>" in html
        assert "<script>" not in html
        assert "<b>" not in html
        assert "&lt;script&gt;" in html
    assert "It left on Monday." in run._repr_html_()
    assert "≥$0.03" in log.runs(tmp_path, log.Filter(outcomes=("lost",)))[0]._repr_html_()
