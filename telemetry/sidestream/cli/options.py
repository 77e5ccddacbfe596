"""Options that commands share: the paths of the log, filters of runs, and the report of unreadable lines."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from sidestream.log import Filter, Problem

DEFAULT_LOG = "runs/"

Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATHS", help=f"The log: folders, files or globs. Default: {DEFAULT_LOG}"),
]
StoredLog = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATHS",
        help=f"The log: folders, files or globs, or an address clickhouse://HOST:8123/DATABASE. Default: {DEFAULT_LOG}",
    ),
]
"""Paths of a log for commands that read any store of runs."""
Log = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH",
        help=f"The log: a folder, a file or a glob (repeatable), or clickhouse://HOST:8123/DATABASE. "
        f"Default: {DEFAULT_LOG}",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

_FILTER_OPTIONS: dict[str, Any] = {
    "since": Annotated[
        str | None, typer.Option(metavar="TIME", help="Earliest start: 30m, 2h, 7d, today, 2026-11-20.")
    ],
    "until": Annotated[str | None, typer.Option(metavar="TIME", help="Latest start (exclusive), written as --since.")],
    "agent": Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Name of the agent; * and ? are wildcards. Repeatable.")
    ],
    "model": Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Name of a requested model, with * and ?. Repeatable.")
    ],
    "outcome": Annotated[
        list[str] | None,
        typer.Option(metavar="OUTCOME", help="Runs with this outcome, such as error, cancelled or lost. Repeatable."),
    ],
    "tag": Annotated[
        list[str] | None, typer.Option(metavar="KEY[=VALUE]", help="Runs with this tag; if repeated, with all of them.")
    ],
    "conversation": Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Id of the conversation; * and ? are wildcards. Repeatable."),
    ],
    "tool": Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Name of a called tool, with * and ?. Repeatable.")
    ],
    "min_cost": Annotated[
        str | None, typer.Option(metavar="USD", help="Minimum cost in US dollars, sub-agents included: 0.05.")
    ],
    "slower": Annotated[str | None, typer.Option(metavar="TIME", help="Minimum duration: 500ms, 30s, 2m.")],
    "attempts_of": Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="Attempts at one task: id of the first, or an end of the id."),
    ],
    "score": Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEST",
            help="Test of the latest score: 'quality<0.5', verdict=pass, or quality. Repeatable: all must pass.",
        ),
    ],
    "min_attempt": Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Minimum number of the attempt: 2 for retried tasks.")
    ],
}


def choosing_runs(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator that replaces the parameter `where`, a `Filter`, by the options of a filter."""
    types = get_type_hints(command, localns={"Filter": Any}, include_extras=True)
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=types[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "where"
    ]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _FILTER_OPTIONS.items()
    ]

    @wraps(command)
    def chosen(**given: Any) -> None:
        from sidestream.log import Filter

        options = {name: given.pop(name) for name in _FILTER_OPTIONS}
        where = Filter.parse(
            since=options["since"],
            until=options["until"],
            agents=options["agent"] or (),
            models=options["model"] or (),
            outcomes=options["outcome"] or (),
            tags=options["tag"] or (),
            conversations=options["conversation"] or (),
            tools=options["tool"] or (),
            min_cost=options["min_cost"],
            slower=options["slower"],
            attempts_of=options["attempts_of"] or (),
            min_attempt=options["min_attempt"],
            scores=options["score"] or (),
        )
        command(**given, where=where)

    chosen.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    chosen.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *options]}
    return chosen


# --- unreadable lines ----------------------------------------------------------------------------------------------


class Unread:
    """Collector of unreadable lines and files. Reported at the end, because the output is then incomplete."""

    def __init__(self) -> None:
        self.count = 0
        self._files: set[str] = set()
        self._unreadable: dict[str, str] = {}

    def __call__(self, problem: Problem) -> None:
        self.file_problem(problem)
        if problem.kind != "unreadable":
            self.count += 1
            self._files.add(problem.file)

    def file_problem(self, problem: Problem) -> None:
        """Record `problem` if it concerns a whole file; for readers that start in the middle of a line."""
        if problem.kind == "unreadable":
            self._unreadable[problem.file] = problem.message

    def report(self) -> None:
        """Print a line for each unreadable file, and one for all unreadable lines. Prints nothing if all were read.

        Raises `typer.Exit` with code 2 if a file could not be read at all.
        """
        for file, reason in self._unreadable.items():
            print(f"sidestream: cannot read {file}: {reason}", file=sys.stderr)
        if self.count:
            lines = "1 line" if self.count == 1 else f"{self.count:,} lines"
            files = next(iter(self._files)) if len(self._files) == 1 else f"{len(self._files):,} files"
            print(f"sidestream: could not read {lines} of {files}; `sidestream validate` shows why", file=sys.stderr)
        if self._unreadable:
            raise typer.Exit(2)


def no_runs(where: Filter) -> typer.Exit:
    """Print on stderr that no run matches `where`; returns an exit with grep's code for no match."""
    from sidestream.log import Filter

    return nothing_found("this log has no runs yet" if where == Filter() else "no such runs in this log")


def nothing_found(what: str) -> typer.Exit:
    """Print `what` on stderr; returns an exit with grep's code for no match."""
    print(f"sidestream: {what}", file=sys.stderr)
    return typer.Exit(1)
