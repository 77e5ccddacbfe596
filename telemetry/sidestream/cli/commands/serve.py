"""`sidestream serve`: the log as web pages."""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
import sys
from typing import Annotated

import typer

from sidestream.errors import ConfigurationError


def serve(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATHS]...", help="Folders, files or globs. Default: runs/.")
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Address to listen on; if local, unreachable from other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="0 for any free port.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            envvar="SIDESTREAM_SERVE_TOKEN",
            help="Token required in the first URL. Default: generated, if HOST is not local.",
        ),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show no buttons for scoring runs.")] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Browse the runs of a log: filters, charts, a timeline and the conversation of each run, live and replayed.

    The pages are reachable from this machine only, unless HOST is another address; then they require the token. They
    read the log, and write only your scores of runs, as `sidestream note` does, and only on a local HOST.

    Example:  sidestream serve runs/ --open

    Example:  sidestream serve runs/ --host 0.0.0.0 --port 8080
    """
    try:
        import uvicorn

        from sidestream.web.app import make_app
        from sidestream.web.security import is_loopback
    except ImportError as error:
        raise ConfigurationError(
            f"serve: {error.name or 'a library'} is not installed; the pages need: pip install 'sidestream[review]'"
        ) from None

    local = is_loopback(host)
    if token is not None and not re.fullmatch(r"[A-Za-z0-9._~-]{16,}", token):
        raise ConfigurationError("serve: the token must be 16 or more letters, digits, and . _ ~ -")
    if token is None and not local:
        token = secrets.token_urlsafe(24)
    app = make_app(paths or ["runs/"], token=token, any_host=not local, scores=local and not read_only)
    listener = _listen(host, port)
    address = f"http://{_in_url(host)}:{listener.getsockname()[1]}/" + (f"?token={token}" if token else "")
    print(f"Sidestream: {address}   (stop with Ctrl-C)", file=sys.stderr, flush=True)
    if not local:
        print("Sidestream: no TLS here; beyond a trusted network, put a reverse proxy in front", file=sys.stderr)
    if open_browser:
        import webbrowser

        webbrowser.open(address)
    # Open pages hold a connection for live updates: do not wait for them on exit, and log no error for cutting them
    # off.
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, server_header=False, lifespan="off", timeout_graceful_shutdown=0
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        if app.state.scoring is not None:
            app.state.scoring.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ConfigurationError(
            f"serve: cannot listen on {host}:{port}: {error.strerror or error}; choose another with --host, --port"
        ) from None


def _in_url(host: str) -> str:
    """`host` as a browser on this machine reaches it."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return socket.gethostname()
    return f"[{host}]" if address.version == 6 else host
