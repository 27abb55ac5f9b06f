"""Lamps and buzzer on a board's pins."""
