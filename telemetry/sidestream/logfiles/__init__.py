"""Log files on disk as their writers and readers share them: names, locks, and opening them safely."""
