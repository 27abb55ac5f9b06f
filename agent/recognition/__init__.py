"""Tracks to Decision: matcher, calibration, templates and their protection, the decision."""
