"""Boards, one per module with a function `board()`; the module's docstring has the questions that the board answers."""
