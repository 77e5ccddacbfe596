"""Web pages over a log: `sidestream serve`, and one run as a standalone HTML file."""
