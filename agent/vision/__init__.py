"""Frame to Tracks: faces, their quality, and which face continues which."""
