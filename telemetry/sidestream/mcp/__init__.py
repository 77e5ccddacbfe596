"""The log as read-only tools of a Model Context Protocol server: `sidestream mcp`, for coding agents."""
