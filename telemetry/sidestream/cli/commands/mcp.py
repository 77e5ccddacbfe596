"""`sidestream mcp`: the log as tools for coding agents."""

from __future__ import annotations

from typing import Annotated

import typer

from sidestream.cli.options import DEFAULT_LOG, AsJson, Paths
from sidestream.errors import ConfigurationError


def mcp(
    paths: Paths = None,
    content: Annotated[
        str,
        typer.Option(metavar="POLICY", help="Content policy of the answers: none, metadata, truncated(N) or full."),
    ] = "full",
    as_json: AsJson = False,
) -> None:
    """Serve the log to a coding agent, as a Model Context Protocol server on standard input and output.

    The agent can list and filter runs, open a run, read requests and answers, search, compare, and compute statistics.
    All tools are read-only. Answers are sized for a context window and go to that agent's model: --content none leaves
    only names and numbers. With --json: print the tools and their arguments, and start no server.

    Example:  claude mcp add sidestream -- sidestream mcp runs/

    Example:  sidestream mcp runs/ --content none
    """
    try:
        from sidestream.mcp.server import make_server
    except ImportError as error:
        raise ConfigurationError(
            f"mcp: {error.name or 'a library'} is not installed; it needs: pip install 'sidestream[mcp]'"
        ) from None
    server = make_server(paths or [DEFAULT_LOG], content)
    if as_json:
        import asyncio

        from sidestream.cli.rendering import write_json

        tools = asyncio.run(server.list_tools())
        write_json([tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools])
        return
    server.run("stdio")
