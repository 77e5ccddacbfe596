"""Events of a log sent on to exporters: follow, replay, collect."""
