"""`sidestream demo`: a support agent streams over real HTTP, with every possible outcome of a run."""
