"""`sidestream prune`: deletes old files of a log by age or size."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Paths
from sidestream.errors import ConfigurationError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def prune(
    paths: Paths = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Delete files last written longer ago: 12h, 30d, 8w.")
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Delete the oldest files until the log is no larger: 500MB, 10GB, 2GiB."),
    ] = None,
    content_first: Annotated[
        bool,
        typer.Option(
            "--content-first",
            help="Remove content before numbers: by age content only, by size content first.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old files of a log, or their content.

    Only files with a dated name are touched, and none that is being written. Each file stays complete or is deleted, so
    that the command can run beside writers and readers, for example from cron. Events that `sidestream collect` or
    `replay` has not sent yet are deleted as well. With --json: sidestream.log.Pruning.

    Example:  sidestream prune runs/ --older-than 30d --max-size 10GB

    Example:  sidestream prune runs/ --older-than 7d --content-first --dry-run
    """
    from sidestream.cli.rendering import write, write_json
    from sidestream.log import parse_duration
    from sidestream.log.pruning import prune as do
    from sidestream.terminal.numbers import counted

    done = do(
        paths or [DEFAULT_LOG],
        older_than=None if older_than is None else parse_duration(older_than),
        max_size=None if max_size is None else parse_size(max_size),
        content_first=content_first,
        dry_run=dry_run,
    )
    if as_json:
        write_json(done)
        return
    would = "would be " if dry_run else ""
    for each in done.files:
        write(
            f"{each.file}: {would}{each.act}, {each.before:,} bytes" + (f" → {each.after:,}\n" if each.after else "\n")
        )
    for file in done.kept:
        write(f"{file}: kept, it is being written or cannot be changed\n")
    freed = sum(each.before - each.after for each in done.files)
    write(f"{counted(len(done.files), 'file')} {would}pruned, {freed:,} bytes; the log has {done.size:,}\n")


def parse_size(text: str) -> int:
    """Parse a size in bytes: `500MB`, `10GB`, `2GiB`, or a number. Raises `ConfigurationError` otherwise."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", text.strip().lower())
    if found is None:
        raise ConfigurationError(f"size {text!r}: write bytes such as 500MB, 10GB or 2GiB")
    return int(float(found[1]) * _UNITS[found[2] or ""])
