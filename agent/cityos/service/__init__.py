"""The city's running process: one loop, its chores and its figures."""
