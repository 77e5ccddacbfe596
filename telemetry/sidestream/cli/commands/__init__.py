"""Commands of `sidestream`. Each module imports heavy dependencies only when its command is called."""
