"""pydantic-ai agents as a source of runs. Only this package, `testing` and the demo import pydantic-ai."""
