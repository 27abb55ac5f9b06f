"""Drivers behind the ports; each is imported only when the settings name it."""
