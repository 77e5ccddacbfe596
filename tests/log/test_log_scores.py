"""Scores in a log: joined with their runs across files; the latest counts; no run is changed by its scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidestream import log
from sidestream.errors import ConfigurationError
from sidestream.events import Score, ScoreEvent, decode_line, encode_line
from sidestream.events.scores import FIRST_SEQ, checked_score, score_event
from sidestream.log.runs.score_tests import ScoreTest
from sidestream.log.score_writer import ScoreWriter
from tests.support.command_line import invoke, mistake
from tests.support.log_builder import Problems, lines, plain, run_events, scored, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs, one without an end; their scores in other files, and a score of a run that is not in the log."""
    write(tmp_path / "a.jsonl", [*run_events("one"), *run_events("two", minutes=1, ended=False)])
    earlier = [scored("one", "helpful", 0.2, minutes=5, comment="a secret"), scored("one", "ok", True, minutes=6)]
    later = [scored("one", "helpful", 0.8, minutes=9), scored("two", "verdict", label="fail", minutes=9)]
    write(tmp_path / "b.jsonl.gz", earlier)
    write(tmp_path / "c.jsonl", [*later, scored("gone", "helpful", 1.0), earlier[0]])
    return tmp_path


class TestReaders:
    def test_the_latest_of_a_name_counts(self, folder: Path) -> None:
        one, two = log.runs(folder)
        assert one.score_values == {"helpful": 0.8, "ok": True}
        assert two.score_values == {"verdict": "fail"}

    def test_scores_do_not_change_a_run(self, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Events, gaps, times, outcome and files of a run do not depend on its scores."""
        alone = tmp_path_factory.mktemp("alone")
        write(alone / "a.jsonl", [*run_events("one"), *run_events("two", minutes=1, ended=False)])
        for scored_run, run in zip(plain(log.runs(folder)), plain(log.runs(alone)), strict=True):
            assert scored_run.pop("scores")
            run["files"] = [file.replace(str(alone), str(folder)) for file in run["files"]]
            assert scored_run == run

    def test_an_opened_run_has_all_scores(self, folder: Path) -> None:
        """Scores come in order of time, each once, with comments, and are not steps."""
        run = log.load_run(folder, "one")
        assert [(each.data.name, each.data.value, each.data.comment) for each in run.scores] == [
            ("helpful", 0.2, "a secret"),
            ("ok", True, None),
            ("helpful", 0.8, None),
        ]
        assert [step.seq for step in run.steps] == [step.seq for step in log.load_run(folder / "a.jsonl", "one").steps]

    def test_comments_are_found(self, folder: Path) -> None:
        (hit,) = {(hit.run_id, hit.event_type, hit.where) for hit in log.search(folder, "secret")}
        assert hit == ("one", "score", "comment")

    def test_sums(self, folder: Path) -> None:
        total = log.statistics(folder).total
        assert (total.scores["helpful"].count, total.scores["helpful"].mean) == (1, 0.8)
        assert total.scores["ok"].mean == 1.0
        assert total.scores["verdict"].labels == {"fail": 1}
        assert total.scores["verdict"].mean is None

    def test_a_score_in_a_file_that_is_read_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The index reads appended scores, and counts a duplicate score once."""
        monkeypatch.setattr("sidestream.log.index.store.WORTHWHILE", 0)
        file = write(tmp_path / "a.jsonl", run_events("one"))
        assert log.runs(tmp_path)[0].scores == []
        event = scored("one", "helpful", 0.5, minutes=5)
        with file.open("ab") as more:
            more.writelines(lines([event, event]))
        (run,) = log.runs(tmp_path)
        assert (run.score_values, run.duplicates, run.missing, run.events) == ({"helpful": 0.5}, 0, 0, 16)

    def test_the_log_is_valid(self, folder: Path) -> None:
        write(folder / "a.jsonl", run_events("one"))
        assert "score" not in invoke("validate", folder).stdout

    def test_scores_of_a_run_that_is_not_there_are_no_run(self, folder: Path) -> None:
        assert {run.run_id for run in log.runs(folder)} == {"one", "two"}
        with pytest.raises(ConfigurationError, match="no run"):
            log.load_run(folder, "gone")


@pytest.mark.parametrize(
    ("test", "taken"),
    [
        ("helpful", "one"),
        ("helpful<0.5", ""),
        ("helpful >= 0.8", "one"),
        ("helpful>0.8", ""),
        ("helpful=0.8", "one"),
        ("ok=true", "one"),
        ("ok=false", ""),
        ("verdict=fail", "two"),
        ("verdict=pass", ""),
        ("verdict<1", ""),
        ("nothing", ""),
    ],
)
def test_a_filter_by_score(folder: Path, test: str, taken: str) -> None:
    assert [run.run_id for run in log.runs(folder, log.Filter.parse(scores=[test]))] == taken.split()


@pytest.mark.parametrize("wrong", ["", "<0.5", "helpful<good", "helpful<"])
def test_an_invalid_score_test_is_an_error(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="score"):
        ScoreTest.parse(wrong)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "a<b", "value": 1}, "without <"),
        ({"name": "", "value": 1}, "1 to 64 characters"),
        ({"name": "x"}, "give a value or a label"),
        ({"name": "x", "value": float("nan")}, "must be a number"),
        ({"name": "x", "value": "good"}, "must be a number"),
        ({"name": "x", "value": 1, "comment": 3}, "must be a string"),
    ],
)
def test_an_invalid_score_is_an_error(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        checked_score(**given)  # type: ignore[arg-type]


def test_a_score_has_a_number_of_its_own_and_is_written_as_it_is() -> None:
    events = [score_event("one", checked_score("x", value)) for value in (1, True, 0.5, None) if value is not None]
    assert len({event.seq for event in events}) == 3
    for event, value in zip(events, (1.0, True, 0.5), strict=True):
        read = decode_line(encode_line(event))
        assert isinstance(read, ScoreEvent)
        assert read == event
        assert (read.data.value, type(read.data.value)) == (value, type(value))
        assert FIRST_SEQ <= read.seq < 2 * FIRST_SEQ


class TestNote:
    def test_a_score_is_written_to_a_new_file(self, folder: Path) -> None:
        """A score is written to a new file; the other files stay unchanged."""
        before = {file: file.read_bytes() for file in folder.iterdir()}
        result = invoke(
            "note", "one", "--score", "helpful=0.4", "--score", "ok=false", "--comment", "no", "--log", folder
        )
        assert result.stdout == f"run one: helpful 0.4, ok false, in {folder}\n"
        assert {file: file.read_bytes() for file in before} == before
        (new,) = set(folder.iterdir()) - set(before)
        assert [decode_line(line).agent_name for line in new.read_bytes().splitlines()] == ["support"] * 2
        assert log.runs(folder)[0].score_values == {"helpful": 0.4, "ok": False}
        assert "score helpful 0.4: no" in invoke("show", "one", "--log", folder).stdout
        assert "helpful 0.4, ok false" in invoke("runs", folder).stdout

    def test_it_is_written_into_a_shared_file_that_is_named(self, folder: Path) -> None:
        before = set(folder.iterdir())
        invoke("note", "two", "--score", "reviewed", "--label", "pass", "--log", folder / "a.jsonl")
        assert set(folder.iterdir()) == before
        problems = Problems()
        assert log.runs(folder / "a.jsonl", on_problem=problems)[1].score_values == {"reviewed": "pass"}
        assert problems == []

    def test_mistakes(self, folder: Path) -> None:
        assert "no such run" in mistake("note", "nobody", "--score", "x=1", "--log", folder)
        assert "use --label for a word" in mistake("note", "one", "--score", "x=good", "--log", folder)
        assert "give a value or a label" in mistake("note", "one", "--score", "x", "--log", folder)

    def test_a_writer_that_is_kept_does_not_make_a_run_live(self, folder: Path) -> None:
        """The open file of a score writer is locked, like the file of a run in progress."""
        writer = ScoreWriter(str(folder))
        two = log.runs(folder)[1]
        writer.write(two, [Score(name="helpful", value=0.0)])
        try:
            assert [run.outcome for run in log.runs(folder)] == ["completed", "lost"]
        finally:
            writer.close()
