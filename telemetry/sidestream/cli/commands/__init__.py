"""The commands of `sidestream`, one or a few to a file. Each imports what it needs when it is called."""
