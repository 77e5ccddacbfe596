"""The way of events to exporters: contract, look-up, buffers, workers and accounting."""
