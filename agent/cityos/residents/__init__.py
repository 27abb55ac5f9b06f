"""Residents at the city: enrolled, changed, handed out, erased."""
