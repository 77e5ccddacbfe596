"""The boards, one to a file. Each has `board()`, and answers the questions in its docstring."""
