"""`sidestream note`: adds scores of a run to the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Log
from sidestream.errors import ConfigurationError

if TYPE_CHECKING:
    from sidestream.events import Score

_WORDS = {"true": True, "false": False, "up": True, "down": False}


def note(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of the run, or its beginning or end; or its trace id.")],
    score: Annotated[
        list[str],
        typer.Option(metavar="NAME[=VALUE]", help="Score; its value is a number, true or false. Repeatable."),
    ],
    label: Annotated[str | None, typer.Option(metavar="TEXT", help="Judgement as a word, such as pass.")] = None,
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="Reason for the score.")] = None,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Score a run: judgements of people and other programs, as events of the log.

    The score is written to a new file in the folder of the log, beside any active writers; to a shared .jsonl file that
    is named; or to ClickHouse. The latest score of a name counts. In a program: sidecar.score(run_id, …).

    Example:  sidestream note b855 --score helpful=0.8 --comment 'right, and too long'

    Example:  sidestream note b855 --score reviewed --label pass --log logs/
    """
    from sidestream.cli.rendering import busy, score_text, write, write_json
    from sidestream.log import runs
    from sidestream.log.runs.naming import named_run
    from sidestream.log.score_writer import ScoreWriter
    from sidestream.terminal.text import sanitize

    scores = [parsed(each, label, comment) for each in score]
    paths = log or [DEFAULT_LOG]
    with busy(paths):
        found = named_run(run, runs(paths))
    writer = ScoreWriter(paths)
    try:
        place = writer.write(found, scores)
    finally:
        writer.close()
    if as_json:
        write_json({"run_id": found.run_id, "scores": [dict(each) for each in scores], "written_to": place})
    else:
        written = ", ".join(score_text(each) for each in scores)
        write(sanitize(f"run {found.run_id}: {written}, in {place}") + "\n")


def parsed(text: str, label: str | None, comment: str | None) -> Score:
    """Parse `NAME=VALUE` as a score. Raises `ConfigurationError` for invalid text."""
    from sidestream.events.scores import checked_score

    name, given, wanted = text.partition("=")
    value: bool | float | None = None
    if given:
        try:
            value = _WORDS[wanted.lower()] if wanted.lower() in _WORDS else float(wanted)
        except ValueError:
            raise ConfigurationError(
                f"note: --score {text!r}: {wanted!r} is not a number, true or false; use --label for a word"
            ) from None
    return checked_score(name.strip(), value, label=label, comment=comment)
