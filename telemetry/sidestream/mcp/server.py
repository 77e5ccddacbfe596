"""The server: tools that read the log and change nothing."""

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
in full. Times are UTC, durations seconds, costs US dollars; what is missing from an answer is not known. Long texts are
cut and say so; next_cursor leads to the rest."""


def make_server(paths: Sequence[str], content: str = "full") -> MCPServer:
    """The server over the log at `paths`, which shows as much content as the policy `content` allows.

    Raises `ConfigurationError` for a policy that does not exist, or a path that leads nowhere.
    """
    policy = ContentPolicy.parse(content)
    log.log_files(*paths)
    lists, single = ListTools(paths, policy), RunTools(paths, policy)
    server = MCPServer("sidestream", instructions=INSTRUCTIONS, log_level="ERROR")
    readers: list[Callable[..., Answer]] = [
        *(lists.list_runs, lists.conversations, lists.stats, lists.errors),
        *(single.open_run, single.read_request, single.read_step, single.compare),
    ]
    if policy.mode in ("full", "truncated"):  # whether a text is found would tell what is hidden
        readers.append(lists.search)
    hints = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
    for reader in readers:
        server.add_tool(_answering(reader), annotations=hints, structured_output=False)
    return server


def _answering(reader: Callable[..., Answer]) -> Callable[..., str]:
    """`reader` as a tool: its answer as JSON; a mistake in what was asked is told to who asked."""

    @wraps(reader)
    def tool(**asked: Any) -> str:
        try:
            return as_text(reader(**asked))
        except (SidestreamError, OSError) as error:
            raise ToolError(str(error)) from None

    tool.__annotations__ = {**reader.__annotations__, "return": str}
    return tool
