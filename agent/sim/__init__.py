"""What stands in for hardware and behaves like it: a door to which people walk up, and attacks."""
