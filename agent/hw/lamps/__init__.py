"""Lamps and buzzer at the door."""
