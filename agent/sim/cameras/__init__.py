"""Cameras that show what was never there."""
