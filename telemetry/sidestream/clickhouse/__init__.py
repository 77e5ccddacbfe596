"""ClickHouse tables, connection and errors, shared by the exporter and the readers."""
