"""The boards are read as Grafana reads them: from the generated files."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # The classic form, which Grafana 10 to 12 read; the library would rather have the next one.
    warnings.filterwarnings("ignore", message="Prefer using dashboardv2", category=DeprecationWarning)
    import grafana_foundation_sdk.builders.dashboard  # noqa: F401
