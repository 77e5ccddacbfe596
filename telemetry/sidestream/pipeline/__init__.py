"""Pipeline from events to exporters: contract, registry, queues, workers and accounting."""
