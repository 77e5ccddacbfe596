"""Grafana boards and Prometheus rules as code. `python -m dashboards.build` writes them to `generated/`."""
