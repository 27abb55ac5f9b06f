"""The loop at the door: frame, decision, event, journal, lamp."""
