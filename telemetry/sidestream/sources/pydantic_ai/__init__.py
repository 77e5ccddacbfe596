"""pydantic-ai agents as a source of runs. The only package, with `testing` and the demo, that imports pydantic-ai."""
