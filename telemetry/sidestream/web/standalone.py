"""Run as a single HTML file, with style and script inline and no external resources."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from markupsafe import Markup

from sidestream.log import RunLog

from .run_page import FOLDED_TEXT, all_events, as_json, run_page
from .templating import asset, render


def standalone_page(run_log: RunLog) -> str:
    """HTML of a run with its sub-agents, all content and all events.

    The page's content security policy allows its own inline style and script only.
    """
    style, script = asset("style.css"), asset("page.js") + asset("timeline.js")
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'"
    return render(
        "run.html",
        standalone=True,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        q="",
        page=run_page(run_log, rows=None),
        parent=None,
        score_token="",
        max_text=None,
        folded_text=FOLDED_TEXT,
        events=[(located, as_json(located), False) for located in all_events(run_log)],
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
