"""Device to city and back, over one connection."""
