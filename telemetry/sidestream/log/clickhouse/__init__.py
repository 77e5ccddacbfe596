"""A log in ClickHouse, read like one in files."""
