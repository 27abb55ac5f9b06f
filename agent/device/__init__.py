"""The board itself: clock, watchdog, health."""
