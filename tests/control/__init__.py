"""Commands and settings between a city and its devices, over a real broker."""
