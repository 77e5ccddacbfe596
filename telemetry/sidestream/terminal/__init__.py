"""Text and layout for terminals, shared by the console exporter and the commands."""
