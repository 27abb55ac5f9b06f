"""Who is known here: the encrypted gallery of a device."""
