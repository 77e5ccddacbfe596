"""The log as web pages: `sidestream serve`, and one run as one HTML file."""
