"""Benchmarks: what a technician asks a board, and the ratios the requirements promise."""
