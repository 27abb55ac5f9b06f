"""Keys that are kept nowhere."""
