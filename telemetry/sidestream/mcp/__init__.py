"""The log as tools of a Model Context Protocol server: `sidestream mcp`, for coding agents."""
