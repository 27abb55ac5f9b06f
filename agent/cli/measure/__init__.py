"""Commands to try and to measure."""
