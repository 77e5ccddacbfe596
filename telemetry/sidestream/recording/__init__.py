"""Recording of runs: requests, tools, totals, content, prices and sampling, from raw records to events."""
