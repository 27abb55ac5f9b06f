"""The city's authority: who may become a device, and the certificates it issues."""
