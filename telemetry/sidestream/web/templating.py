"""Jinja environment of the pages, with autoescaping."""

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
    """Text of a static file, such as `style.css`."""
    return (HERE / "static" / name).read_text("utf-8")


@cache
def version(name: str) -> str:
    """Content hash of a static file; with the hash in the URL, browsers may cache the file forever."""
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
    """HTML of `template` with `values`. Lone surrogates, as in file names, are escaped."""
    html = _environment().get_template(template).render(markdown=MarkdownRenderer(), **values)
    return html.encode("utf-8", "backslashreplace").decode()
