"""Jinja environment of the pages. Every value is escaped."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import wording
from .content import json_tree, pieces
from .markdown import MarkdownRenderer
from .run_page import gist
from .waterfall import step_id
from .word_diff import word_diff

HERE = Path(__file__).parent


@cache
def asset(name: str) -> str:
    """The text of a file that the pages load, such as `style.css`."""
    return (HERE / "static" / name).read_text("utf-8")


@cache
def version(name: str) -> str:
    """Version of a static file, by its content, so that browsers may cache it for good."""
    return sha256(asset(name).encode()).hexdigest()[:12]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=wording.visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(wording.FILTERS, gist=gist)
    environment.tests["not_kept"] = wording.not_kept
    environment.globals.update(
        step_id=step_id, version=version, pieces=pieces, json_tree=json_tree, word_diff=word_diff
    )
    return environment


def render(template: str, **values: Any) -> str:
    """The page that `template` makes of `values`. What UTF-8 cannot hold, as in the name of a file, is escaped."""
    html = _environment().get_template(template).render(markdown=MarkdownRenderer(), **values)
    return html.encode("utf-8", "backslashreplace").decode()
