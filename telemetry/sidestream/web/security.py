"""Access control: ASGI middleware in front of all pages.

The pages show prompts and answers, so they are as private as the log. The content security policy allows no external
resources and no inline scripts; other sites can neither embed nor read the pages; and host names of other machines (DNS
rebinding) are rejected.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from html import escape
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

SCORES = re.compile(r"/runs/[^/]+/scores")
"""Path of the score form, the only one that accepts POST."""

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with "no-referrer", browsers submit forms with the header `Origin: null`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether `host` is a loopback address or `localhost`, reachable from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


class Guard:
    """Middleware that accepts only same-origin requests of the pages, and top-level navigation to them.

    Args:
        app: Application to protect.
        token: Token required once in the URL (`?token=`), and kept in a cookie; None requires no token.
        takes_scores: Whether POST requests of the pages' own score form are accepted.
        any_host: Whether any `Host` header is accepted. False on loopback: a site whose name resolves to 127.0.0.1
            could otherwise read the pages as its own origin (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, token: str | None, any_host: bool, takes_scores: bool = False) -> None:
        self._app = app
        self._takes_scores = takes_scores
        self._token = token
        self._any_host = any_host
        # Cookies are shared by all ports of a host: two servers must not overwrite each other's cookie.
        self._cookie = f"sidestream-{hashlib.sha256((token or '').encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        is_form = scope["method"] == "POST" and self._takes_scores and bool(SCORES.fullmatch(scope["path"]))
        if not is_form and scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("These pages only read.\n", 405, {"Allow": "GET, HEAD"})
        if not self._any_host and not _names_loopback(headers.get("host", "")):
            return PlainTextResponse("Not a name of this machine: open http://127.0.0.1 instead.\n", 421)
        if not _comes_from_here(headers):
            return PlainTextResponse("Another site may link to these pages, not load them.\n", 403)
        if is_form and not _is_own_form(headers):
            return PlainTextResponse("Only a form of these pages can be sent here.\n", 403)
        if self._token is None:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if given := [value for name, value in query if name == "token"]:
            if not _same(given[0], self._token):
                return PlainTextResponse("That is not the token.\n", 403)
            response = _go_to(scope["path"], urlencode([pair for pair in query if pair[0] != "token"]))
            response.set_cookie(self._cookie, self._token, path="/", httponly=True, samesite="strict")
            return response
        if _same(_cookie(headers, self._cookie), self._token):
            return None
        if headers.get("sec-fetch-site") == "cross-site":
            # Browsers omit a SameSite=Strict cookie when following another site's link; the page opened here reloads
            # the URL as a same-site request, which has the cookie.
            return _go_to(scope["path"], scope["query_string"].decode("latin-1"))
        return PlainTextResponse("Open the address that `sidestream serve` printed: it has the token.\n", 401)


def _names_loopback(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _comes_from_here(headers: Headers) -> bool:
    """Same-origin check: False for requests of another site, except top-level navigation by a link."""
    site = headers.get("sec-fetch-site", "none")
    if site not in ("same-origin", "none"):
        return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _is_own_form(headers: Headers) -> bool:
    """Whether the request is a form submitted by a page of this server, by its `Origin` and `Sec-Fetch-Site`."""
    origin = headers.get("origin")
    return (
        headers.get("sec-fetch-site", "same-origin") == "same-origin"
        and origin is not None
        and urlsplit(origin).netloc == headers.get("host")
        and headers.get("content-type", "").partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"
    )


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _go_to(path: str, query: str) -> HTMLResponse:
    """Page that opens another by `<meta http-equiv="refresh">`. After a redirect, the request would still count as
    cross-site, without the cookie."""
    target = escape("/" + quote(path).lstrip("/") + (f"?{query}" if query else ""))
    return HTMLResponse(
        f'<!doctype html><meta http-equiv="refresh" content="0; url={target}"><title>Sidestream</title>'
    )
