"""Second eyes that see what they are told."""
