"""Source of runs: any stream, tapped by `Sidecar.tap`."""
