"""MCP server with one tool, for `mcp_tools.py`."""

from mcp.server import MCPServer

server = MCPServer("files")


@server.tool()
def create_file(name: str) -> str:
    """Create a file (the example only pretends to)."""
    return f"{name} created"


if __name__ == "__main__":
    server.run("stdio")
