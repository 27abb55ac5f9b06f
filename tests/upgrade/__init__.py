"""State that an earlier kaopass wrote, and towns that are upgraded one half at a time."""
