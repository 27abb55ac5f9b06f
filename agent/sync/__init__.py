"""Journal to city and back: messages, the uplink and its supervisor."""
