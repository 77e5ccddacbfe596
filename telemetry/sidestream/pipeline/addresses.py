"""Addresses without their secrets: user, path and query may each hold a key."""

from __future__ import annotations

import re

_URL = re.compile(
    r"""(?sx)
    (?P<scheme> [a-zA-Z][\w+.-]+ :/{0,2} | // ) /*
    (?: .*@ )?                                     # a user and password, which may hold any sign where mistyped
    (?P<host> \[[^]/]*] | [^:/?\#]* )
    (?P<port> :\d+ (?= [/?\#] | $ ) )?
    (?P<rest> .* )
    """
)
_PUBLIC_PATHS = ("", "/", "/v1/traces", "/v1/metrics", "/v1/logs")
"""Paths that name what is sent, and no customer."""


def shown_url(url: str) -> str:
    """`url` down to scheme, host and port, with what else it had as `/…`; a text that is no URL as it stands."""
    found = _URL.fullmatch(url)
    if found is None:
        return url
    path, *query = re.split(r"[?#]", found["rest"], maxsplit=1)
    end = path if path in _PUBLIC_PATHS else "/…"
    return f"{found['scheme']}{found['host']}{found['port'] or ''}{end}{'?…' if query else ''}"
