"""Tracks to Decision: keys, gallery, matcher, calibration, the recognition decision."""
