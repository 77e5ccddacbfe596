"""What tests share: agents, events, logs, servers and programs."""
