"""A broker, an authority and an EST server of one's own, on loopback or in memory."""
