"""pydantic-ai agents as a source of runs. Apart from `testing` and the demo, the only package that imports
pydantic-ai."""
