"""Tools for testing code that uses Sidestream."""
