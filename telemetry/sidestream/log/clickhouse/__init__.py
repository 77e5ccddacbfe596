"""Reading of a log in ClickHouse, with the same results as from files."""
