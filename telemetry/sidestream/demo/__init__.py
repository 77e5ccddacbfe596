"""`sidestream demo`: a support agent streams over real HTTP, and every way in which a run can end is observed."""
