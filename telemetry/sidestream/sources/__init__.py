"""Where runs come from: pydantic-ai agents, tapped streams, and the adapters for other SDKs."""
