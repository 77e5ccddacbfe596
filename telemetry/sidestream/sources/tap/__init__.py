"""Any iterator as a source of runs."""
