"""The city's gallery on its way to the device."""
