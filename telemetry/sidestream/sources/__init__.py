"""Sources of runs: pydantic-ai agents, SDKs, and streams tapped with adapters."""
