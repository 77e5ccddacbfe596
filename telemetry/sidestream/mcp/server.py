"""Model Context Protocol server with read-only tools over a log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

from sidestream import log
from sidestream.errors import SidestreamError
from sidestream.recording.content import ContentPolicy

from .answers import Answer, as_text
from .lists import ListTools
from .single import RunTools

INSTRUCTIONS = """The log of AI agent runs that Sidestream recorded, read-only. Begin with list_runs (newest first)
or errors; open_run shows the steps of one run, read_request what the model was sent and answered, read_step one event
in full. Times are UTC, durations seconds, costs US dollars; values missing from an answer are unknown. Long texts are
cut with a note; next_cursor fetches the rest."""


def make_server(paths: Sequence[str], content: str = "full") -> MCPServer:
    """Create the server for the log at `paths`, with content reduced to the policy `content`.

    Raises `ConfigurationError` for an unknown policy or a path that does not exist.
    """
    policy = ContentPolicy.parse(content)
    log.log_files(*paths)
    lists, single = ListTools(paths, policy), RunTools(paths, policy)
    server = MCPServer("sidestream", instructions=INSTRUCTIONS, log_level="ERROR")
    readers: list[Callable[..., Answer]] = [
        *(lists.list_runs, lists.conversations, lists.stats, lists.errors),
        *(single.open_run, single.read_request, single.read_step, single.compare),
    ]
    if policy.mode in ("full", "truncated"):  # under stricter policies, a search hit would reveal hidden content
        readers.append(lists.search)
    hints = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
    for reader in readers:
        server.add_tool(_answering(reader), annotations=hints, structured_output=False)
    return server


def _answering(reader: Callable[..., Answer]) -> Callable[..., str]:
    """Wrap `reader` as a tool that returns JSON, and reports errors to the calling agent."""

    @wraps(reader)
    def tool(**asked: Any) -> str:
        try:
            return as_text(reader(**asked))
        except (SidestreamError, OSError) as error:
            raise ToolError(str(error)) from None

    tool.__annotations__ = {**reader.__annotations__, "return": str}
    return tool
