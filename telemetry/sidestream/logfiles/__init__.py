"""Log files on disk, as the writer and every reader agree on them: names, locks, and how one is opened safely."""
