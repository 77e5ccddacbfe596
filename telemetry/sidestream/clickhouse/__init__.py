"""ClickHouse as writer and readers share it: the tables, the connection, and what its errors mean."""
