"""Redaction of URLs and setting values in messages: user, path, query and values may contain keys."""

from __future__ import annotations

import re

_URL = re.compile(
    r"""(?sx)
    (?P<scheme> [a-zA-Z][\w+.-]+ :/{0,2} | // ) /*
    (?: .*@ )?                                     # user and password, which may hold any character if mistyped
    (?P<host> \[[^]/]*] | [^:/?\#]* )
    (?P<port> :\d+ (?= [/?\#] | $ ) )?
    (?P<rest> .* )
    """
)
_PUBLIC_PATHS = ("", "/", "/v1/traces", "/v1/metrics", "/v1/logs")
"""Paths of standard endpoints, which identify no customer."""

_HARMLESS = re.compile(
    r"""(?x)
    [a-zA-Z_/-]{1,24} \d{0,2}                       # a word, such as http/protobuf
    | -? [\d.]{1,8} [a-z]{0,2}                      # a number, with its unit
    | [.~]{0,2} / [\w./ -]{1,200}                   # a path
    | [\w-]{1,40} ([/.] [\w-]{1,40})* \. (pem|crt|cer|key)
    """
)


def shown_value(value: object) -> str:
    """Displayable form of a setting's value: a word, a number or a path is shown; otherwise only the length.

    An invalid value may be a key in the wrong place.
    """
    if not isinstance(value, str) or not value or _HARMLESS.fullmatch(value):
        return repr(value)
    return f"({len(value)} characters)"


def shown_url(url: str) -> str:
    """Scheme, host and port of `url`, with the rest abbreviated as `/…`. Other texts are returned unchanged."""
    found = _URL.fullmatch(url)
    if found is None:
        return url
    path, *query = re.split(r"[?#]", found["rest"], maxsplit=1)
    end = path if path in _PUBLIC_PATHS else "/…"
    return f"{found['scheme']}{found['host']}{found['port'] or ''}{end}{'?…' if query else ''}"
