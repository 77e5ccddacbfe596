"""Tapped streams as sources of runs (`Sidecar.tap`)."""
